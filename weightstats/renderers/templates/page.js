"use strict";
(() => {
  const { datasets, charts } = JSON.parse(document.getElementById("data").textContent);
  document.documentElement.classList.add("scripted");
  const views = new Map();
  const table = document.getElementById("layers");
  const body = table && table.tBodies[0];
  const status = document.getElementById("shown");
  const filter = document.getElementById("filter");
  const kind = document.getElementById("kind");

  const ready = [...document.querySelectorAll("[data-chart]")].map(async (place) => {
    const name = place.dataset.chart;
    const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false,
      tooltip: { disableDefaultStyle: true } };
    const { view } = await vegaEmbed(place, { ...charts[name], datasets }, options);
    views.set(name, view);
    view.addEventListener("click", (event, item) => {
      if (item && item.datum && Number.isInteger(item.datum.index)) showRow(item.datum.index);
    });
  });
  Promise.all(ready).then(() => { document.documentElement.dataset.ready = "true"; });

  const has = (chart, name) => (charts[chart].params ?? []).some((param) => param.name === name);

  const signal = async (name, value) => {
    for (const [chart, view] of views) {
      if (has(chart, name)) await view.signal(name, value).runAsync();
    }
  };

  // The law's chart: what is switched on, and axes that reach as far as that does.
  const switches = [...document.querySelectorAll(".switches input")];
  const rivals = switches.filter((box) => box.dataset.rival);
  const ends = { left: Math.min, right: Math.max, low: Math.min, high: Math.max };
  let frame = null;
  const draw = async () => {
    const view = views.get("law");
    frame ??= Object.fromEntries(Object.keys(ends).filter((end) => has("law", end)).map((end) => [end, view.signal(end)]));
    for (const box of switches.filter((one) => one.dataset.signal)) view.signal(box.dataset.signal, box.checked);
    if (rivals.length) view.signal("rivals", rivals.filter((box) => box.checked).map((box) => box.dataset.rival));
    for (const [end, outer] of Object.entries(ends).filter(([name]) => name in frame)) {
      const reached = switches.filter((box) => box.checked && box.dataset[end]).map((box) => Number(box.dataset[end]));
      view.signal(end, outer(frame[end], ...reached));
    }
    await view.runAsync();
  };
  for (const box of switches) box.addEventListener("change", draw);
  for (const box of switches) box.checked = box.defaultChecked;

  const mark = (index) => {
    for (const row of document.querySelectorAll("tr.picked")) row.classList.remove("picked");
    const row = document.getElementById(`layer-${index}`);
    if (row) row.classList.add("picked");
    const leftOut = switches.find((box) => box.dataset.signal === "left_out");
    if (row && "leftOut" in row.dataset && leftOut && !leftOut.checked) leftOut.click();
    signal("picked", index);
    return row;
  };

  const showRow = (index) => {
    const row = mark(index);
    if (!row) {
      status.textContent = `Layer ${index + 1} is beyond the rows of this table.`;
      return;
    }
    if (row.hidden) clearFilters();
    row.scrollIntoView({ block: "center" });
    row.querySelector(".pick").focus({ preventScroll: true });
  };

  const clearFilters = () => {
    filter.value = "";
    if (kind) kind.value = "";
    narrow();
  };

  const narrow = () => {
    const wanted = filter.value.trim().toLowerCase();
    const glob = /[*?]/.test(wanted) && new RegExp(`^${wanted.replace(/[.+^${}()|[\]\\]/g, "\\$&")
      .replace(/\*/g, ".*").replace(/\?/g, ".")}$`, "s");
    let count = 0;
    for (const row of body.rows) {
      const name = row.querySelector(".pick").textContent.toLowerCase();
      const fits = glob ? glob.test(name) : name.includes(wanted);
      row.hidden = !(fits && (!kind || !kind.value || row.dataset.kind === kind.value));
      count += !row.hidden;
    }
    status.textContent = `${count} of ${body.rows.length} shown`;
  };

  const sortBy = (head) => {
    const column = head.cellIndex;
    const rising = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    head.setAttribute("aria-sort", rising ? "descending" : "ascending");
    const way = rising ? -1 : 1;
    const byText = new Intl.Collator("en", { numeric: true });
    const keyed = [...body.rows].map((row) => {
      const cell = row.cells[column];
      const value = cell.dataset.value;
      return { row, text: cell.textContent, number: value === undefined || value === "" ? NaN : Number(value),
        numeric: value !== undefined };
    });
    keyed.sort((one, other) => {
      if (!one.numeric) return way * byText.compare(one.text, other.text);
      if (Number.isNaN(one.number) || Number.isNaN(other.number)) {
        return Number.isNaN(one.number) - Number.isNaN(other.number);
      }
      return way * (one.number - other.number);
    });
    body.append(...keyed.map((entry) => entry.row));
  };

  if (body) {
    for (const button of table.querySelectorAll(".sort")) {
      button.addEventListener("click", () => sortBy(button.closest("th")));
    }
    body.addEventListener("click", (event) => {
      const button = event.target.closest(".pick");
      if (!button) return;
      mark(Number(button.dataset.index));
      const chart = document.getElementById("chart-law");
      if (chart) chart.scrollIntoView({ block: "center" });
    });
    filter.addEventListener("input", narrow);
    if (kind) kind.addEventListener("change", narrow);
    clearFilters();
  }

  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const part of opened) part.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const part of opened) part.open = false;
  });
})();
