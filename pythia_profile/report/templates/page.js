// Tables: a click sorts, a second one turns the order, a third one brings the first order back.
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const cell = button.closest("th"), body = cell.closest("table").tBodies[0];
  [...body.rows].forEach((row, at) => { row.dataset.at ??= at; });
  const next = { ascending: "descending", descending: "none" }[cell.ariaSort] ?? "ascending";
  for (const other of cell.parentNode.cells) if (other.querySelector("button")) other.ariaSort = "none";
  cell.ariaSort = next;
  const text = (row) => row.cells[cell.cellIndex].textContent.replaceAll(",", "");
  const compare = (a, b) => {
    if (next === "none") return a.dataset.at - b.dataset.at;
    const [x, y] = [parseFloat(text(a)), parseFloat(text(b))];
    const by = isNaN(x) || isNaN(y) ? text(a).localeCompare(text(b)) : x - y;
    return next === "ascending" ? by : -by;
  };
  body.append(...[...body.rows].sort(compare));
});

// A box that is wider than the screen says so, as phones show no scroll bar.
const cut = new ResizeObserver((boxes) => {
  for (const { target } of boxes) target.toggleAttribute("data-cut", target.scrollWidth > target.clientWidth + 1);
});
for (const box of document.querySelectorAll(".scroll")) cut.observe(box);

for (const button of document.querySelectorAll("button.copy")) button.addEventListener("click", async () => {
  const source = document.getElementById(button.dataset.of);
  getSelection().selectAllChildren(source);
  try { await navigator.clipboard.writeText(source.textContent); button.textContent = "Copied"; }
  catch { button.textContent = "Selected: copy with Ctrl+C"; }
});

// A figure is saved from the page itself, where the files beside it are not there.
for (const link of document.querySelectorAll("a[data-svg]")) link.addEventListener("click", () => {
  const drawing = document.getElementById(link.dataset.svg).querySelector("svg").cloneNode(true);
  drawing.removeAttribute("style");
  drawing.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  link.href = URL.createObjectURL(new Blob([drawing.outerHTML], { type: "image/svg+xml" }));
});

addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details:not([open])")) { fold.open = true; fold.dataset.shut = ""; }
});
addEventListener("afterprint", () => {
  for (const fold of document.querySelectorAll("details[data-shut]")) { fold.open = false; delete fold.dataset.shut; }
});

// The interactive profile: point at a cell, click a cohort for its path, a checkpoint for its column.
const NAMESPACE = "http://www.w3.org/2000/svg";
const number = (x) => x == null ? "–" : x.toFixed(4);
const count = (x) => x == null ? "?" : x.toLocaleString("en-US");

async function opened(word) {
  const bytes = Uint8Array.from(atob(word), (letter) => letter.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(plain).text());
}

function element(name, attributes, text) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  return made;
}

// One small chart: steps across, effects up, band, a line where the cohort is read.
function chart(svg, points, mark, label) {
  const [width, height, left, right, top, bottom] = [460, 210, 56, 450, 10, 180];
  const known = points.filter((point) => point.att != null);
  const values = known.flatMap((p) => [p.att, p.lower, p.upper]).filter((v) => v != null).concat(0);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [points[0].step, points[points.length - 1].step];
  const x = (step) => left + (right - left) * (last > first ? (step - first) / (last - first) : .5);
  const y = (value) => bottom - (bottom - top) * (high > low ? (value - low) / (high - low) : .5);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", label);
  const whole = known.filter((p) => p.lower != null && p.upper != null);
  const edge = (end) => whole.map((p) => `${x(p.step)},${y(p[end])}`);
  svg.append(element("polygon", { class: "band", points: [...edge("upper"), ...edge("lower").reverse()].join(" ") }));
  svg.append(element("path", { class: "axis", d: `M${left},${y(0)}H${right}M${left},${top}V${bottom}` }));
  if (mark >= first && mark <= last)
    svg.append(element("path", { class: "axis", "stroke-dasharray": "2 3", d: `M${x(mark)},${top}V${bottom}` }));
  svg.append(element("polyline", { class: "curve", points: known.map((p) => `${x(p.step)},${y(p.att)}`).join(" ") }));
  for (const p of known.length > 60 ? [] : known) svg.append(element("circle", { class: "dot", r: 3, cx: x(p.step), cy: y(p.att) }));
  for (const value of new Set([low, 0, high]))
    if (value === 0 || Math.abs(y(value) - y(0)) > 14)
      svg.append(element("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(2)));
  const shown = [...new Set([0, 1, 2, 3, 4].map((k) => Math.round(k * (points.length - 1) / 4)))];
  for (const at of shown)
    svg.append(element("text", { x: x(points[at].step), y: bottom + 22, "text-anchor": "middle" }, count(points[at].step)));
}

async function explore(box) {
  const profile = await opened(box.querySelector("script").textContent.trim());
  const figure = document.getElementById(box.dataset.figure), stage = figure.querySelector(".stage");
  const panel = (size) => document.getElementById(box.dataset.panel + size);
  if (!Object.keys(profile).some(panel)) return;
  box.hidden = false;
  const [size, cohort, checkpoint] = box.querySelectorAll("select");
  const charts = box.querySelectorAll(".paths figure"), output = box.querySelector("output");
  const tip = document.getElementById("tip");
  const marks = [0, 1].map(() => stage.appendChild(Object.assign(document.createElement("div"), { className: "mark", hidden: true })));
  const fill = (select, values) => select.replaceChildren(...values.map((v, at) => new Option(typeof v === "number" ? count(v) : v, at)));
  const sizes = Object.keys(profile);
  const cell = (name, g, c) => {
    const of = profile[name], across = of.checkpoints.length, at = g * across + c;
    const rows = (list) => list && (list.length === of.cohorts.length ? list[g] : list[at]);
    const value = (list) => of.att[at] == null || list?.[at] === null ? null : (of.att[at] + (list?.[at] ?? 0)) / 1e4;
    return { att: value(), lower: value(of.lower), upper: value(of.upper),
      treated: rows(of.n_treated), control: rows(of.n_control), cohort: of.cohorts[g], checkpoint: of.checkpoints[c] };
  };
  const said = (name, g, c) => {
    const of = cell(name, g, c), since = of.checkpoint - of.cohort;
    const when = since < 0 ? `${count(-since)} steps before reading` : `${count(since)} steps since reading`;
    const band = of.lower == null ? "no band" : `band ${number(of.lower)} to ${number(of.upper)}`;
    return `${name}, cohort ${count(of.cohort)}, checkpoint ${count(of.checkpoint)} (${when}): ATT ${number(of.att)}, ${band}, n ${count(of.treated)} treated and ${count(of.control)} control rows`;
  };
  const show = () => {
    const name = sizes[size.value], of = profile[name], [g, c] = [+cohort.value, +checkpoint.value];
    output.textContent = said(name, g, c) + ".";
    const path = of.checkpoints.map((step, at) => ({ step, ...cell(name, g, at) }));
    const column = of.cohorts.map((step, at) => ({ step, ...cell(name, at, c) }));
    const titles = [`Path of cohort ${count(of.cohorts[g])} over checkpoints, ${name}`,
      `Column of checkpoint ${count(of.checkpoints[c])} over cohorts, ${name}`];
    chart(charts[0].querySelector("svg"), path, of.cohorts[g], titles[0]);
    chart(charts[1].querySelector("svg"), column, of.checkpoints[c], titles[1]);
    titles.forEach((title, at) => { charts[at].querySelector("figcaption").textContent = title; });
    const area = panel(name)?.getBoundingClientRect(), from = stage.getBoundingClientRect();
    marks.forEach((mark) => { mark.hidden = !area; });
    if (!area) return;
    const [high, wide] = [area.height / of.cohorts.length, area.width / of.checkpoints.length];
    const put = (mark, left, top, width, height) => Object.assign(mark.style,
      { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    put(marks[0], area.left - from.left, area.top - from.top + g * high, area.width, high);
    put(marks[1], area.left - from.left + c * wide, area.top - from.top, wide, area.height);
  };
  const choose = (name) => {
    size.value = sizes.indexOf(name);
    const [g, c] = [cohort.value, checkpoint.value];
    fill(cohort, profile[name].cohorts); fill(checkpoint, profile[name].checkpoints);
    if (g in cohort.options) cohort.value = g;
    if (c in checkpoint.options) checkpoint.value = c;
  };
  // Where a pointer is: in a panel, or beside it, on a cohort's or a checkpoint's name.
  const found = (event) => {
    for (const name of sizes) {
      const area = panel(name)?.getBoundingClientRect();
      if (!area) continue;
      const right = (event.clientX - area.left) / area.width, down = (event.clientY - area.top) / area.height;
      const beside = right < 0 && event.clientX > area.left - 45, below = down > 1 && event.clientY < area.bottom + 28;
      const inside = (part) => part >= 0 && part < 1;
      if (!((inside(right) || beside) && (inside(down) || below)) || (beside && below)) continue;
      return { name, g: below ? null : Math.floor(down * profile[name].cohorts.length),
        c: beside ? null : Math.floor(right * profile[name].checkpoints.length) };
    }
    return null;
  };
  stage.addEventListener("pointermove", (event) => {
    const at = found(event);
    tip.hidden = !at || at.g === null || at.c === null;
    if (tip.hidden) return;
    tip.textContent = said(at.name, at.g, at.c);
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - 320))}px`;
    tip.style.top = `${event.clientY + 16}px`;
  });
  stage.addEventListener("pointerleave", () => { tip.hidden = true; });
  stage.addEventListener("click", (event) => {
    const at = found(event);
    if (!at) return;
    choose(at.name);
    if (at.g !== null) cohort.value = at.g;
    if (at.c !== null) checkpoint.value = at.c;
    show();
  });
  fill(size, sizes);
  const last = sizes[sizes.length - 1], middle = Math.floor(profile[last].cohorts.length / 2);
  choose(last);
  cohort.value = middle;
  checkpoint.value = Math.max(0, profile[last].checkpoints.indexOf(profile[last].cohorts[middle]));
  size.addEventListener("change", () => { choose(sizes[size.value]); show(); });
  for (const select of [cohort, checkpoint]) select.addEventListener("change", show);
  new ResizeObserver(show).observe(stage);
  show();
}
for (const box of document.querySelectorAll(".explore")) explore(box);
