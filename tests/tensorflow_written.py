"""Small checkpoints, models and graphs as TensorFlow 2.21 and Keras 3.15 write them, compressed and in base 85.

- `tf1`: `tf.compat.v1.train.Saver` on `net/conv/weights` (2, 2, 3, 4), elements i % 7 + 1; `net/fc/kernel` (4, 5),
  elements i % 7 + 2; `rows` (10, 4) in three pieces along its first dimension and `columns` (2, 300) in three along its
  second, both with elements 0, 1, 2, ...; Adam's slots and moving averages of the first two.
- `keras`: `tf.train.Checkpoint(model=..., optimizer=...)` of Conv2D(3, 2, ones), BatchNormalization, Flatten, Dense(2,
  zeros) on (4, 4, 2), after a step of Adam with a learning rate of 0; `export`: the variables of its `Model.export`.
- `dtypes`: `tf.train.Checkpoint(half=0..5, bf=0..5, text="abc", b=[True, False], c=[3+4j], i=0..2)`.
- `module`: `tf.saved_model.save` of a module with `w` (4, 3), elements 0, 1, 2, ..., and `b`: relu(x @ w + b).
- `frozen.pb`: a graph of constants `dense/w` (4, 3), `dense/bias`, `out/w` (2, 3; multiplied transposed), `shape`,
  `splat` (2, 5; all 0.5) and `half`.
"""

import base64
import zlib
from pathlib import Path

FILES = {
    "tf1/checkpoint": ("c-qU&Pf5**PtHh9&MwH$%qxj6NG!>)Qc%hTiR%FcOLPsDxDs=6;&ZX7EXGg@0NlA9LI"),
    "tf1/model.ckpt-1.index": (
        "c-muNVB=tvV&Y(A5ENrb&d({$%`0YLWMpb+YB-"
        "R>!6?Kb#Kge_#3>3K8VlG=U$=O1^09~?NI{ca!3L6zl#~<XXBIz!CV7GfB)R@|&Jso*v7-"
        "EPhy^VTEl^b~Agr)KTEoHgqeG%5CyQ81GhC7xEcroN!@xA?JYN}5vK?J=fecWRsgUD012=b4YDuDDd_jJBY7tNkg9eM~-"
        "`B_Qv#|3TAp{jzfWo`q{<_J)ZUFT%P?!_!US^IpOjaCROae?moMOcVX0dRj0NLDNHY>*oMu8LtZoc%K{G`O3_~Me(0uD}~p)Z6qI7~H}"
        "XRtE}$mgY&=qKmrmFbtKW~OJ9fQ%P_1_u+uPeK|87)>7qNpBZmmDhJnNzBEnY=a0$nbYORlSG;1;|;MJB??m`C?W4!QIMaPnpcvUnB$v"
        "YmYJ9CSe9Cpn4XH=ba9v?SUAPflJ&Dwi}F%)kRpav;e&)mfT=^pkvs+=F_6dLs$gzLC_NwvRO+m~J57j54D3{d)C4K06rY3`9v31sJdl"
        "D}%c2KLG*C${kOFWFv4AizhFCaQ1eoD$b_kmR2y~bj7??neDRQQMAes?G9Qd?w0|O&-F~bv9xY#|b_J1!~Ili&-"
        "GY|yfzZ<$$O5JY*0Q6y|m;"
    ),
    "tf1/model.ckpt-1.data-00000-of-00001": (
        "c-rmPS@4x}0LJl0MWyYpg%GmugzQTpWDg;PYzZMmS$l<qB-xTAAxV-wTV6@BCrJ_#k|aq;vV3ykvI{dtX8h)S<~z@vi!<-"
        "M=gc{$ef##!x{U7DEPtM2Nt=66Fo=@rWcQ?k#x$Wht!PIl3VPCqehgwLBN;`>cqTA~>C9pt3&|cy6{=B_3hL94Ml@zUHexfH(3Bn6h32"
        "%NB?r)o*0iB5?KqhZbfgoV>B=P(bmvNX(35NFMQ{4hmz%kje)MMm0~y3%?qvu=8OCr%Fp@`koF^H@Gd#y=O2#mjaZ6rf&lKb~CH<7#uB"
        "5+`JCqDia;K7kO72oJNXgww1}nKo$-"
        "PSMQ!+%!{Yr)^c|gf9B@ZeYuH+#lBa}R>WTcWulsu~BF(r>Hc|ysPN}f_OO3Bkoo>B6wlIN5>uVl267nGDrUQ{wh$xBMcDtTGSI3=$r8"
        "SkFF#v8oF1ST?x$xLA?)A*R_%;0loGK<;FVJ`ES&jNmAA&XedZ^UaZM<ps#h2>d+s#K#oD^i1+)S@<Zs9+`PQjhvHU}aXJA*-"
        "?)tJ8=zSd+DA%-"
        "XEOx~#|gY`}(W#KvsGrfkOMY{8Z^VJo&~8=A5$+p#@6up>LMGrO=WyU~p1?9LwSNelL3Z}wSoKin7cs*=}~ysqR8C2uNuOUc_xCMbDF$"
        "wVdZDw(9@JtdQsysu=6k`I(jRq~;dX-Ym)^0AUnluTFhsgfB=K2!3!k}s6ZRPv>gSxUZAGF!>lO6Dl}M#)?y-"
        "zu4><U1wvm3*&cfs!AT{HWw7B@31OtfVFTvLE|%00(jq2h)l}IF!R^&EXuuk+k6`j^-"
        "HJaxBMjJncAv6FG^KIfeF|N(WBkbk3k7XL1&2(}{C9m-"
        "Fb%`CLF3x^f{GaWR*0DVNcW!gZ3%m2_8fg_0|kT&1LklB<>URC0}yYn5E5q?eNGmGo9}gOWZ<ZdB4&$xTXbR&tAyMM{2AvRKKlN`6!Fy"
        "W#`po4-"
        "X0O0t|yK}jmv6qKa0O+iVj*c6mxd7FZgtYA}6lBzZZC8=gpP?G941tnS0rl2G>Yzj(J)25&#wQLGXQro7WBz0^GN>X7{P?D8w3QAJfrl"
        "2JCYzj(J-=?4>4QvWZ{yIzhjrCu6?*H@ep8x#&XDR<L{?>EL`uPX0ciH`)_6Ni3s^b"
    ),
    "keras/checkpoint": ("c-qU&Pf5**PtHh9&MwH$%qxj6NG!>)QcwbNOLPsDxDs=6;&ZX7DMnHR0Esgg!~"),
    "keras/ckpt-1.index": (
        "c-"
        "muNVB=tvV&Y(Akl~Ma_HcFf4)FK%3vqPvagFzP@^W<!iFXfj4DjG!7h+Jj!J+X{+O*%}s5OI|P;P!oYL0$<T4`Q#NoIatB9NV5kXn=o;"
        "uPx}>F4H`W#*;F=cXp+>FYU$gammyg@(8W>xVf8d4i1(bMy&y<zN(I5n|$CRye?+!DD)gSF>APS*R?rC^IoHIh7cFXF&Qg#W+qe81Uv7"
        "lw{^+R;3o{$7hznor1>@PN1haG&oEdOYb>yYw+fzCKly^91YY;z;Xr!0Sy+@Wz~XK+y-"
        "(bMTwbtiAg!B@nDw&8O8br`1K0_9nXY>nHBD^Y9yEz-&tcOFC%0~jL-"
        "M50ewEx(Uupe!H5_QCqNo1^BNR^8jOk2a0Ow5xCwp@96$}yAipR)VAHt4XqvA*`9IJaQ^M9TDeM46fhO||c5ZcXL;xBZ5NqQcCYX(4GU"
        "A5B>iWWr&_zu6F)5s31-f%$f93-*qQZ|!;R;AY-"
        "177G42H5uX%pc`BT^HI2r!N8>ASgFR7TdARJ|o|y+S5L#Xci6_C<+`M`ncwNE*zD(eMUIgE=u8ejsVEAVxzA6GDR}F&ZYoG%%=h7bljb"
        "#wX{O<^jtR0;LGF3}FC*G-d_{CJ^J%zYZS|%?Kh6d|J4Hfswg{;T9KM?7o*w`F$>qH(dM-1VQ-khHjNo_uBxUj9$C"
    ),
    "keras/ckpt-1.data-00000-of-00001": (
        "c-rlk-EJF26o5UUX(yA^4yQ?*I8B>2e-"
        "OZHZ~6;DQHla8YHvbXm8;R%J9VeoA9r_c+KNg@a0hotya3#A#|!WVg<BqiH{go1JF&a&+8QfLE<hb=bhJA&=Q}@hW@kx3H&S@h-"
        "n9RA`{U)y-;*A|w;v|GQ21u+czd=Dd;kA#?603c?)G0=FSfe<?}gv~eDDvevI$CH+zTA(veR@7CW2P1JoQ|LY?{6WQ<3OM-U!-"
        "$EW?d4O4ui?L{GpZf7tdLu?l>VTenEZVIJ3bE#*pw$DvTZsJoI!v4~}=<R`+4^dvCe5ur-PA~r`)!AxfItC1y2;ryTxu6#!|a7KwvphX"
        "Hz6p2X@1InPtT`59e`Av?mB?2cA=mnni<F=P9n!-gL=>`oID;cGR-"
        "G$Fs@&5Mi?d@B4cKH46JNI__V^ChtK3SFRy}jMrx9;ujd|~x3OV#~K*c3etG_k(1FC8?jh=wV@j_V!nW7s2hhL)hjgLa&KIZ3DC6nBFt"
        "!iO39HcTHp@Sr2ZP&pFg3^3miuFE6U^hMkbC2xsPcoHp(*gQQ0vpgMtBqFpJ4SpJP5jN5F8FW2pb>o%VI<`?@kJ&hel2lPJAT<=TKx`C"
        "efo!5U2jmKhIUrY2%mcZGq739ZiUlAyP@D&HlbxiCFjlLgynwQX@*+wb<r2!xlvlyYmo)3LW-"
        "V*hie{~9)*7;U_C0{zTzZPa5uVjce!1G)iB@Jym@>uT%baFNHTUhJ@@7VR--roN(ZQ_hDAsiNY#q16-"
        "9_#0#jd**9rdaXcTLCH)&WlDU(oZHvf&xl*Ky*y*7c6o^{&>np>@57x>6-"
        "iU_TdywKNKmeA33kQNm4jQpa}qz6^co_6n+8%S5JEqLyun%OQ{lHT!G`a?^wiK;@7tLy&cawPWz{%8>&N9$qy8U%*#6p#3_qF5<=`JZ?"
        "fyxaxUYCcG&;Pni6@cFcH#_t#DMuc4E}*G9qDWo&f*#_`e(zTZ4dIjz1<ccdT5TmjnyiM8s{BYRE`LDmjaP|Jgn{RKP(XdgAu<e~A5@}"
        "QXm&b?w;`n0fgK+7LxC<87^mNAF>Aal60d0gU~5oXNZGl=rXVFos!IIQ$!Frtlld<tPcj|Oy7mqxNNp)Nekk<Vqw>E;<VpT;lFV{me`*"
        "&J=8bQ(W4$qi!xFRYjF!m90O6t8qA67A`PE&Rz?hVe9oIJAO87*f22z7LaL&`EAko)kV_gg=1N!HbmdH)J1SHA`5_5WXky9mzSoVMuI-"
        "UH&xv1+p@~HCE<=j2kO6*%Xi;3H*?^rZSo}UB}Cxk7!YMfx)VO0gcE+X#"
    ),
    "dtypes/ck.index": (
        "c-muNVB=tvV&Y(Akl~AW_HcFf4)FK%3vqPvagFzP@^W<!iFXfj4DjG!7h+Iw(m29wdhuiTRR$UUBz--"
        "{kdPoxr_d1BVEr)1AWyKKFh`$IR}L;A79l1MCJiRj_zmY88D#|1@Tuklt7cPR(%>;&pg-"
        "#mgN$G@KJ^@6^^6L98XTrcT+_1|<OMSlbMRUr47EZGXoYir(SM*7nfTOmg4HuCC}~KTe%tJDlR=)hB(<UhpB7L6Spi*i_~I-"
        "{1|VPr5$V4<&%!weJ}un9z{p(6aE}Qt#=y<C>oF6@2PS?7f*|~NL$^w)`)vS<7h#h"
    ),
    "dtypes/ck.data-00000-of-00001": (
        "c-muRU|?vlXK-+EXmD8IzyM?b`9REI!{ET+#Nfi<$^Zq7P?`x!Gbh{EYa}Km?_*94I-"
        "|{H%EijTD8!h=#m2!T#FUf<<T48}CUbFcun4haB<6qwScMoffdXtoEG4NGC0a}zj9hj?7F>K`jzOM|PCl;jVU9kbu0kAPiA9--"
        "Nja%fGD-S+jv*mIo=%}5uEF}K>cIN#g)H&tmrY6|WB>sNBoor_C}fRCzdXq26gnZ3LMMR2nt%}i?%a3i"
    ),
    "export/variables/variables.index": (
        "c-muNVB=tvV&Y(Akl~Ma_HcFf4)FK%3vqPvagFzP@^W<!iFXfj4DjG!7h+KO!K!hI-}Icz0Y*kGp~Re=__D;J%*3Re)M9-"
        "DeLcsJkRVT|&=A*P{V>NMPp}bTjy|ET9E?INLQEXY3V)b1cuXtv8Wj0u#0~Ll-"
        "~ein24W_K4rYxTjHdb8lmGL}2pJK!hDqT8iw1|OCi4t-"
        "ei=Dq{2By68jvuv!V4CS1k>U>Ys`SQnGoZt6Rbc_&2+To1!^!QM#B{(4Q9k>cmUFnDaLUMsKJ~V4R1giPVs7XGpI=u9Yq*H0SyN(89_s"
        "0EKPv=3aH+Q81*^Ov;b6ZOpN*pxcS7zOA8}35V(kpmkEr}U}jJgM}(RgvFUUUBP^YA5fx2L3SXF@>68HoM3@;Em_Q8MP3Pr6G$V*O@M+"
        "-&21e#`hKcNOv9r$JPSe;q7PIp+5Cq}B8@g3W-ERW`qW9b1"
    ),
    "export/variables/variables.data-00000-of-00001": (
        "c-"
        "q~S(Qgtl7{DotE8Pb3!;LxL)cAl22W)IFnuR4ikStLVm~qZaIVx1|dU`!bG@AJAzoGw&FTVTlSUA~^J4|uQUUo_IL9hM&+VXuRk@&iwx"
        "YQPY=J%7|-ycugkN02pr!8^ipMRaxRp0An=h@j4&Zlsm{mTCQ-1tboA+m}Qq({`_v}-d-@;C`O-=kcNznf<-?%-"
        ">X7p^epy##z6GA6a{P~RF(!HVf{X_-_?=1Y>sHy|aMH)14%mw-"
        "s#7t|kmOcs(Dkw+wjF`$wPX+UKa2%w4z%Ye33SOK)7!YZJu3K>AVDr5oeO=cH0vopbLHNH9-"
        "4*{_h5X+}4SPS}Y1`G%oxqxviV5|o#*a%jTpROQTNRTX9#+$ID&d6eBNp;*+yS_c$bq;SqcKnfxzS(1M=+O4nm>19_nNF?Qs2v>E%}(v"
        "GU58D{J`9=gIkgST6{AYec*i`!?5zi<M{JagVy)F`HV)dY`g3EJFj-Oup2o-"
        "<adMYa8RnLC+#bA+aqow?UFur{Q@EZ(ZT^Y++!aQjIt~q6Dmse=Co#)Cjit-"
        "{8OgRz@)mkANkJoV+{rKKFe<{X9i2<SAm%DA=9*Z9#lpU-"
        "&UXaQV!nLH*JDDmIeE3K1GnKx47?r#N7HIghvi_MGp!!ZUOxKDcm<usk0wgj*2ha|EqXptwzeux;OIYYizr@O56946_{xaFwFNMM?)fS"
        "@YSN~@1n0t~7L{tt!UcYzyCf>q7R>lB=WqK1VzP3o"
    ),
    "module/saved_model.pb": (
        "c-qxlU2Ggz72dn+{qeEAw(t69eH|yx)=izE^{zKbo32X1cGD&yf3lq*sPJfZXY5R~o?Xq%+D@OKf>NbCRP7U$5W-"
        "Rs3Zfv8fIc7uNQeiXc|$_Hm3N-"
        "u+?m;(nVp&SIw>e^l+5hCcg{WMJ3sfFdv7y@{zZY0vh?30@CqbXWcf~+rhpt2$R>Z@$0x(*oA@lu0X7bp_nS(E!dN+*&5`)P_|$YNnHb"
        "E_ZxZqzA+QBwD~6%&Xm=!Cm8x~+W|Iy>MpukRORp*U37UoEo>Xrsg`~`B6-K~*u}K#gWU*V7B~uZNyAp4&HX3ynUyQwj^e;kkt)Uqv8"
        "--M(Wj0%8o6e|1m!?cbGa7mqVOW6iS5$+uwAN_ezp1S&lI&-V(_ezj6<N_t)x1vulB&jMKoEvH(;*Ur9VFlf1X9-}^Lne!@sb?es{E5-"
        "NH_I{+^SjMOv8|=OPbMa7>X#lLiszYo{m`;?=i@hhdJJfL5_Ha7AT~4bV>G6YPWfaz}p1qbw%G%?v&T=Dz$sfhN_tcorYYk^HXf<%C>r"
        "-82L1v0xBzpscMp`HZ-RvpGIazWu>m5QW|wxlvUm6OhO8$ASc!9jeT)fMcr#V;<j2>48P)1FmR)BvkBK>;FeUohh~tn)MX$z0=eM_co@"
        "hHnn2bTNr`yiMkNnO2dZK9v3NcPYcO=HF4dH~$d;l9t)k1iCLn1WmHl7?m3W@Omm$loA<AS~Z<FQHU4nsirQV_=kl9uwv!z>du`w8uYN"
        "onpfyrA6CtRhD!)SQ~RXUJN4Q9u4Q`1AxfWdV{zoDbL(EL(u_~{r7+g2@V(ypbb2^h0P5G73(jk;Rnt!y09_Bf-QvRE_<d2rq+)K$Y=<"
        "nL!WuAJ{Wq&B3zN1TlwceXF#Y-"
        "mI^6LA`>H8fe}xa5JmjOn<J(#zW}!|29cNtYG*RkSe99M@D;GOTyxXwcHHF6R?yV4$^jMeC=LPoO(yww;giY4`(y=?xQu%yz4OOVUk?6"
        "GdJ_JElWuWcrR#PHd_g>fT|cJg|u`g&go^zjSC;R%cf$GQLd*wp&^a2c%HmZFPsH3{yuJVR0J6ST}69qMtR)hOciHMwA1k)<R<tEnD++"
        "B9=cP+-xVf2x@Iz*-;K&ZPn`-iE4K_2v*!edw@3gc_^T^nv!WMy4I!z*8n!Gx2qTjP$?<vJ5(+ANcY=x0bGZ~fHi0+O-"
        "YxKH7{523j#yvLzmG;xDzp-"
        "6Y<YbSW{9p#rIiZ28Otj6xp&iUsoPLR;sO?U{9A{XZ?O%cnU_Xh=fFCWsjRH9kz61lQ_%bz)>tD4MpEmgj9K{yu4H@vpxIeIlZ?0+=b_"
        "Mr1KY-tIMVG^CkHrp})BX8pd|&6;hajtZ2hzFIO1$AYO?H)W`Y&jaQ4pP@Cy^i3p=@mQxk%%_Q&(9}Wphs;~i*)gq5g#jXI=6|fko3M{"
        "}$2HLc}GlLFf{}F}Q?-C-{76K|6oG40=efTO&?)N9izHl<Y%`kZB`-"
        "CxJoa>OUI<m4Ywd$sLK)q{%@JxW*B;+dNbSU$m_J4%a_Dgo6Em_!5_#_@3KB78UkWrMDYc6ZYlr$vE2{JJuj5y&W35hZx!W>MCwMLx>P"
        "IXTacO^~QQFKw24T@&muY3t%0hp*G+G0bi-xu4iDcU}dv3G#QNn9v*1*HO=hcqPCZrvUu{N*)#iIwA5V;9L=B=$bRH{lCB(w$jffP#qR"
        "wiR8`kT6dJt+i0x*QI6?Szf+y;UWy%nE<u(fuF~njE>rm!bs8f*b2^ADMgy5M_Fm%U!<M<{e!Ijon+E9w)!^$B}irnx4vX1&b?_klb{("
        "<tf4YQ5wd7b(BaV#;u!)j&}GQpSy{ibvU=^3cxUC>?MwJQJF#C}TG`xOzp{FJ^U_AqKOp+UDmzg<>cdeO$|PwTQ$R$lB*XwyvrLMPcG("
        "Jc#GSu4A#328t&8pD%x~^}0XEdOZtQ^{$6+SIX2s=bbME58wq<5(5u=-"
        "B(inlt1L=v0wBM%FN7;0g5c54vn1A^w=6i;l@9FhZFy}R2(b5T~J18bv?u%vkQ4gTX#{|mf^yzM=f5HGd%K=(gFTi{lK)Ri>ip$TJUZC"
        "&344=-"
        "yVf+XzDcU^;q*Gx~0rD2(vR$Orut;lYR?B{VqB4w*+*twWA~36GIb?JdM`v)fJrYw{KIdK;!9=^nlnC=e)v55r3;8r=0f!`{L^>o>)^Z"
        "i784pP=WF0#s`E`q<un#7kuCAqSKO%n%ZDn4#{6SKPw1!DH<pY}8GR{?s#U+7#y;sN;`ime_?T9<FI%LJ$<PzqDCX*m-"
        "5yi;y7}RIm)amM&MIA&_*=-"
        "iBDZWKIb%gU|b77EG>}e_`mbEx>e~&pVc3QfbO!Jz<7BiGvw(ZNDJ?}m}u~D19Uh~|b@q9dTp4TD53~6vTgGD-"
        "!FcBb+p@4mdK(3#hERrsp-"
        "U{dLSUDWpqr2(Sd1JF7tW_+lz_h?o5IJfhv`1)DM3Z!>kGJ0<baRX;M2PhLFfH{6T@iZvE`jh663|o++H7Vkip#!B2h@~{X4!-"
        "0Tqt`%ZS|N4VRUJq^U%(@Gajw0UK3pN?g%*1sh@DfD;g&p4X&nfQHfOu!3Z$fwHHyeC_j208#YgjeL#Yn9^DNr=LR4*%AE}5&+X5-"
        "XhZ@V6_@^mp~K!eDtfnyB82bLzS6>O8vuE=igDi>vD!2HUhSD;ubvRsE?-*v%B`DMZfsi3H&?G-"
        "TH6#~TVJ_#nHgBc*+O*hZauCbGi^b}R<j*JV*C&LcD%Fc<~$ke(p06LE25T8guv|Ta6W>6kCxr=7uI;rZS-YI-IAZd-"
        "0!Yr@I<sF)%h4xZ`83oX(}4hs;N9yEt2pECX9Es1??i2q}h7}&IHr0V#u~MwRVhqf|TB}aR`YEe0?SEf*!3w!hRLLSsv2Hiv6+ff*YN_"
        "Jtns7t|xAu_ry(KB9hw*G8_>^qm!Nu&rBCWBlLM!;N%vs?~f+>ed65@2xT-f&0rH-AxT1ym5xnqg|1ZL&=yX6YX$0xd7&ewun3d3!|1J"
        "=b!5V|ryQ7cl#blH#A~+o7Jjs=U`{(?*J14$05X-B{inRxujQ3Xkr`n`dszt2^1>R+=X>Nbkv-+5sQe_nx$;F^++KtTi-"
        "1!wA+`)Gc8#V|Q@7RjMq=6t%9YcZIGuyph+%x=6o-)BL-"
        "s3cnHc?2Boj|Zd^$qCeg$uj!f#0*WpSX~T>vUs2c>%sERAMJp<957z^G+^iR&w9&p8Ec;1CvT-"
        "0miEnf;k?V{#6hKF<sJ9xzvq|KnQzGvYn5b6@?z_f$B>ZmfJNn)%4gY(Bt#7KZt8X8Uj0qWgMirIqVUUvbX!dSux7z`QB2j#1f1B;@cv"
        "(85COzK?3`@$wH}5%Z0Rk}w2@<wt<wr<g?qeJuotP}dI4*ZzlKe9gQ1ezu9pTO^`d^f|})RsfjXR!FR}^NC~UEVqwQRbm>+=Ma~VCVLH"
        "1_E0Bn=~Ie6@{DsdEIB_$o-xy%XYjDr$udGLGo-"
        "D&(2pxWNel7EX?Q^TIe(%_AP0FuXCU3u?rDvEEwJiN!=Te8mV8U?Fl5?#$`fm$jokGA_)$&>$pLFK#atFX|L21Rets~wJ_|FxM9DdcL$"
        "#d0$Qq$b(|iO}QFR9CTU_>%ukOfiMa&f8vU9E}(BSHI40jc}-"
        "E{`0Lynv+|1BTirYZ~Qqw{bw!i!RL0G;AIjv_~nDp#(er@jjP9;o;7`UCjqApDN>Fo?FFmf+;BWbU@=mTh_#OZRR`m;0WDSxJ_A4DaR8"
        "llE=C!0`@6lHGNt3E`sy+p<SUaJ=1e*}ZXSKY7@g3uPp@0o%8Cya6E+2L$T{bpN}`bx0r`YTrL)W40(2=kg@FI16&}7?Qo_+|{%GWoe{"
        "cdGnD7Nud#oa<UcAwZF%SQ8#@tYHBM~%a~~d0eX_c)>4$8gg5gvCB*hZ+A50}+!mk^5odsQE}-"
        "E^(&xy}Fvt~>nTNTtVayiC{C5B<B{~~<<pK>R`kKMTIKOVosmbDQLssgz-"
        "m99}XmaPWtwnelwJ3UrsG4f>Ay3n%qPoETmhr;zhXlIspU`&+6fq!E0VnUi##AYd5f+4oz62Qu!V-q@D4D{)PB3N{VcYe_e$kn-"
        "h{>L;VoZ2H16Pl8xu<XfwX~yXimujdZ8fTI@B`$548gPo73*C=@}!J(M=K-"
        "kb%Hlk;Zx$ft5g1K&*kf50^cLQOuU01@e}D4eP;s=gpS#lOKIlA1g39qAfh9X#^`A^qKDEUzT2SR+qZsXA>*KIca8(x+vn+-"
        "H9YZQB1X~A?Izzq3PX~nHB37M(Zs_<Oqe@NFvvfMPtu^S^5jjgZ18O8Eu_LEjJR3#uGDn!`-"
        "H6ix+fTXB`<vN#36$1@JF)x`~C`tUP3r`hHVCp!~c|ze;0#e2|=5^z~7*lw=>}|@eIr#Ca@TL5YKa04zmK_Bnzh>#7}n0qu@C72l`%rn"
        "7v`mT|7)Y3yH%7R&x&%1(@fv_u`^(?qQ<D|6hzw_$WMxpYr?+W9h#Kp8e1"
    ),
    "module/variables/variables.index": (
        "c-"
        "muNVB=tvV&Y(Akl~AW_HcFf4)FK%3vqPvagFzP@^W<!iFXfj4DjG!7h+Jb(YV8CD!9<|4ugzflD?i}NJx;UQ)q~5uzr|hkSADAn4?dqD"
        "+i+xix3kBvx0#JkLgTDTV4hk;d1=yIe_ZHdNd47uP+O|!vF+~AYyltq#c}d;M2kl42;Yb3=0_HVhvANE-q!{*u==sKoErgZs=Aib-"
        "xV&1XwTL"
    ),
    "module/variables/variables.data-00000-of-00001": (
        "c-muN0D%U3AmIQ+K-"
        ">Vt3xN0l5I+E721f=40U%ZYVgpA8Byf!}LRn=#mjM?m2cr;UIgnx!Voc)V;b0cxh>uTB%*lz5=i=jF5#lP&OwUU!DJ@DZ)?(sd<T4jB<"
        "l+l+4Dxhz@^Ot1bMy&y1?rcQDc9F?3<(MHbP5e|4c13hfLmjdluQyKjr?5P9IQg@B}IwJsqqF{3|!(|!W?Wu{Kct7Wtn;D@hPckiKRIu"
        "KnW%Y1^~77I3)"
    ),
    "frozen.pb": (
        "c-"
        "pO!%}&BV6ovZ>^_Cc!BEd$ZvM{6@VPRsB2$YR1AjXimB!ewhEtJrrxZ_b=`xHKkZ=#o$p)|&gvFT~1>D+tH{W@>~{G6!QF1@oI&$aBSu"
        "@AEE(1}g7YL=+V7rS^OD3YOqYz43QRVee|K-#j$zJ2;a<d!$~1EUS{Gj(S+X_%J^Pn2a1N-"
        "UPS@LJUI(ZCzEK)s<pP@gES$#FZVBUHJWbb5rX$Z0flNvcDG&dk;Mxz7BJEU3Yhj{S+}+x-C%N}Q2_)curNeHy-"
        "{f$uF_C3n)q&ae(z08!V$1NGTp$84~Ina9DRp)#8TB?Gr1ZDM)TvItw~@d)~cL!4|EREq|*KlG*}8juu`x>vU?=z{Fcf|zlIMJbslE5<"
        "??r|=u&WV9z(0bGMzCyb1K!sP!9v&K%-D*Pb}pEq-"
        "g7;@yR5FfJ5s3M$0`o@mx*+OTbqrOYKUbF)X*1@2Pz7rQIu6z%eZ_Xqe&}2hGSoI_z7nI1OUs)rHU6)<|^SGUX<WP6Wg6^@PJLa~cg@A"
        ";j#MQXOU(|}C@~(XY(|h3C"
    ),
}


def written(folder: Path, name: str) -> Path:
    """One of the above, laid out in a folder: the path of a file or of a folder."""
    for path in FILES:
        if path == name or path.startswith(f"{name}/"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content(path))
    return folder / name


def content(path: str) -> bytes:
    """What is in one of the files."""
    return zlib.decompress(base64.b85decode(FILES[path]))
