"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  for (const e of document.querySelectorAll(".js, #theme, #print")) e.hidden = false;

  // --- theme: the system's until the reader chooses; mail programs may forbid storage
  const dark = () => {
    const chosen = root.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const label = () => { $("theme").textContent = dark() ? "Light" : "Dark"; };
  try {
    const kept = localStorage.getItem("entlaw-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch { /* no storage */ }
  label();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  $("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("entlaw-theme", root.dataset.theme); } catch { /* no storage */ }
    label();
  });

  // --- print: the runs unfolded, and folded again afterwards
  let folded = [];
  const unfold = () => {
    folded = [...document.querySelectorAll("details:not([open]):not(.read)")];
    for (const d of folded) d.open = true;
  };
  addEventListener("beforeprint", unfold);
  addEventListener("afterprint", () => { for (const d of folded) d.open = false; });
  $("print").addEventListener("click", () => print());

  const runs = [...document.querySelectorAll("details.run")];
  if (runs.some((run) => !run.open)) {
    $("unfold").hidden = false;
    $("unfold").addEventListener("click", () => {
      const open = runs.some((run) => !run.open);
      for (const run of runs) run.open = open;
      $("unfold").textContent = open ? "Fold all runs" : "Unfold all runs";
    });
  }

  // --- table: sort by click or key, filter by name
  const table = $("runs");
  const body = table.tBodies[0];
  const original = [...body.rows];
  const order = new Map(original.map((row, i) => [row, i]));
  const heads = [...table.tHead.rows[0].cells];
  const compare = (kind, column, sign) => (p, q) => {
    const a = p.cells[column].dataset.v;
    const b = q.cells[column].dataset.v;
    if (a === "" || b === "") return (a === "") - (b === "") || order.get(p) - order.get(q);
    const difference = kind === "number" ? a - b : a.localeCompare(b, "en", { numeric: true, sensitivity: "base" });
    return sign * difference || order.get(p) - order.get(q);
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...[...original].sort(compare(head.dataset.kind, column, up ? 1 : -1)));
      $("live").textContent = `Sorted by ${button.textContent}, ${up ? "ascending" : "descending"}`;
    });
  });
  if (original.length > 8) {
    $("filter-box").hidden = false;
    $("filter").addEventListener("input", () => {
      const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      original.forEach((row, i) => {
        const text = (row.cells[0].textContent + " " + row.cells[1].textContent).toLowerCase();
        const keep = words.every((word) => text.includes(word));
        row.hidden = runs[i].hidden = !keep;
        shown += keep;
      });
      $("count").textContent = words.length ? `${shown} of ${original.length} runs` : "";
    });
  }

  // --- plots: what is read at a point is the row of the CSV that can be downloaded
  const decode = (a) => decodeURIComponent(a.getAttribute("href").split(",").slice(1).join(","));
  const tip = $("tip");
  const pretty = (text, digits = 4) => (text === "" ? "–" : String(Number(Number(text).toPrecision(digits))));
  const SVG = "http://www.w3.org/2000/svg";

  function reader(figure) {
    const lines = decode(figure.querySelector("a.points")).trim().split("\n");
    const keys = lines[0].split(",");
    const rows = lines.slice(1).map((line) => Object.fromEntries(line.split(",").map((v, i) => [keys[i], v])));
    const plots = [...figure.querySelectorAll("svg.plot")].map((svg) => ({
      svg,
      marks: [...svg.querySelectorAll("use[data-i]")].map((u) => ({
        i: +u.dataset.i, x: +u.getAttribute("x"), y: +u.getAttribute("y"),
      })),
    }));
    const known = [...new Set(plots[0].marks.map((m) => m.i))].sort((a, b) => a - b);
    return { rows, plots, known, at: -1 };
  }

  function words(row) {
    const said = [["Step", pretty(row.step, 8)], ["H", pretty(row.entropy_used)]];
    if (row.entropy_logged !== row.entropy_used) said.push(["H as logged", pretty(row.entropy_logged)]);
    said.push(["R", pretty(row.performance)]);
    if (row.law !== "") {
      said.push(["Law", pretty(row.law)], ["R minus law", pretty(row.performance - row.law, 2)]);
      said.push(["Point", row.fitted === "1" ? "fitted" : "held out"]);
    }
    return said;
  }

  function hide(state) {
    tip.hidden = true;
    if (state) for (const p of state.plots) for (const ring of p.svg.querySelectorAll(".ring")) ring.remove();
  }

  function show(state, plot, index, loud) {
    hide(state);
    state.at = index;
    const said = words(state.rows[index]);
    for (const p of state.plots) {
      for (const m of p.marks) {
        if (m.i !== index) continue;
        const ring = document.createElementNS(SVG, "circle");
        ring.setAttribute("class", "ring");
        ring.setAttribute("cx", m.x);
        ring.setAttribute("cy", m.y);
        ring.setAttribute("r", 6.5);
        p.svg.append(ring);
      }
    }
    tip.replaceChildren();
    said.forEach(([key, value], i) => {
      const line = document.createElement(i ? "div" : "b");
      line.textContent = i ? `${key} = ${value}` : `${key} ${value}`;
      if (key === "Point") line.textContent = value;
      tip.append(line);
    });
    tip.hidden = false;
    const mark = plot.marks.find((m) => m.i === index);
    const box = plot.svg.getBoundingClientRect();
    const scale = box.width / plot.svg.viewBox.baseVal.width;
    const x = box.left + mark.x * scale;
    const y = box.top + mark.y * scale;
    const left = x + 14 + tip.offsetWidth > innerWidth ? x - 14 - tip.offsetWidth : x + 14;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, Math.min(y - tip.offsetHeight / 2, innerHeight - tip.offsetHeight - 4))}px`;
    if (loud) $("live").textContent = said.map(([key, value]) => `${key} ${value}`).join(", ");
  }

  function nearest(plot, event) {
    const box = plot.svg.getBoundingClientRect();
    const scale = plot.svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale;
    const y = (event.clientY - box.top) * scale;
    let best = null;
    let least = 45 ** 2;
    for (const m of plot.marks) {
      const d = (m.x - x) ** 2 + 0.4 * (m.y - y) ** 2;
      if (d < least) [least, best] = [d, m];
    }
    return best;
  }

  const MOVES = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
  for (const figure of document.querySelectorAll("figure.plots")) {
    let state = null;
    const ready = () => (state ??= reader(figure)); // parsed when first looked at: 200 runs cost nothing before
    [...figure.querySelectorAll("svg.plot")].forEach((svg, k) => {
      svg.setAttribute("tabindex", "0");
      svg.setAttribute("aria-roledescription", "plot; arrow keys read its points");
      const move = (event) => {
        const plot = ready().plots[k];
        const mark = nearest(plot, event);
        if (mark) show(state, plot, mark.i, false);
        else hide(state);
      };
      svg.addEventListener("pointermove", move);
      svg.addEventListener("pointerdown", move);
      svg.addEventListener("pointerleave", () => hide(state));
      svg.addEventListener("blur", () => hide(state));
      svg.addEventListener("keydown", (event) => {
        const { known, plots, at } = ready();
        if (event.key === "Escape") return hide(state);
        if (!known.length || event.ctrlKey || event.metaKey || event.altKey) return;
        let next = at < 0 ? 0 : known.indexOf(at) + (MOVES[event.key] ?? 0);
        if (event.key === "Home") next = 0;
        else if (event.key === "End") next = known.length - 1;
        else if (!(event.key in MOVES)) return;
        event.preventDefault();
        show(state, plots[k], known[Math.max(0, Math.min(next, known.length - 1))], true);
      });
    });
  }
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // --- all points in one file
  const cell = (text) => {
    const safe = /^[=+\-@]/.test(text) ? `'${text}` : text;
    return `"${safe.replaceAll('"', '""')}"`;
  };
  const links = [...document.querySelectorAll("a.points")];
  if (links.length > 1) {
    $("all-points").hidden = false;
    $("all-points").addEventListener("click", () => {
      let out = "";
      for (const link of links) {
        const [head, ...rows] = decode(link).trim().split("\n");
        const run = cell(link.closest("figure").dataset.name);
        if (!out) out = `run,${head}\n`;
        for (const row of rows) out += `${run},${row}\n`;
      }
      const a = document.createElement("a");
      a.href = URL.createObjectURL(new Blob([out], { type: "text/csv" }));
      a.download = "points.csv";
      a.click();
      setTimeout(() => URL.revokeObjectURL(a.href), 60000);
    });
  }
})();
