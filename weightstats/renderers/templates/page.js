"use strict";
(() => {
  const { datasets, charts } = JSON.parse(document.getElementById("data").textContent);
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

  const signal = async (name, value) => {
    for (const [chart, view] of views) {
      const known = (charts[chart].params ?? []).some((param) => param.name === name);
      if (known) await view.signal(name, value).runAsync();
    }
  };

  for (const box of document.querySelectorAll("[data-signal]")) {
    box.addEventListener("change", () => signal(box.dataset.signal, box.checked));
  }
  let ends = null;
  const rivals = [...document.querySelectorAll("[data-rival]")];
  const showRivals = async () => {
    const view = views.get("law");
    ends ??= [view.signal("low"), view.signal("high")];
    const on = rivals.filter((one) => one.checked);
    view.signal("rivals", on.map((one) => one.dataset.rival));
    view.signal("low", Math.min(ends[0], ...on.map((one) => one.dataset.low / 1.5)));
    view.signal("high", Math.max(ends[1], ...on.map((one) => one.dataset.high * 1.5)));
    await view.runAsync();
  };
  for (const box of rivals) box.addEventListener("change", showRivals);
  for (const box of document.querySelectorAll(".switches input")) box.checked = box.defaultChecked;

  const mark = (index) => {
    for (const row of document.querySelectorAll("tr.picked")) row.classList.remove("picked");
    const row = document.getElementById(`layer-${index}`);
    if (row) row.classList.add("picked");
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
    let count = 0;
    for (const row of body.rows) {
      const fits = row.querySelector(".pick").textContent.toLowerCase().includes(wanted);
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
