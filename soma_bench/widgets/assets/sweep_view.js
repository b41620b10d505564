// Draws a sweep that runs. Rows are kept and their texts replaced, so that nothing jumps or flickers.

const COLUMNS = [
  ["agent", "Agent", "11%"],
  ["target", "Target", "20%"],
  ["ended", "Trials ended", "11%", "number"],
  ["estimate", "Quality so far, 0 to 1 (95 % interval)", "19%"],
  ["failures", "Failures by class", "13%"],
  ["mean", "Mean time", "7%", "number"],
  ["left", "Time left", "7%", "number"],
  ["spend", "Spend so far", "12%"],
];

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function intervalPicture() {
  // The numbers stand beside it as text; a reader of screens needs no picture.
  const picture = shape("svg", {
    viewBox: "0 0 100 12",
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  picture.append(
    shape("line", { class: "axis", x1: 0, x2: 100, y1: 11, y2: 11 }),
    shape("line", { class: "reach", y1: 6, y2: 6 }),
    shape("rect", { class: "mean", width: 2, height: 10, y: 1 }),
  );
  return picture;
}

function placeInterval(picture, interval) {
  picture.style.visibility = interval ? "visible" : "hidden";
  if (!interval) return;
  const [mean, low, high] = interval.map((value) => 100 * value);
  const [, reach, point] = picture.children;
  reach.setAttribute("x1", low);
  reach.setAttribute("x2", high);
  point.setAttribute("x", Math.min(98, Math.max(0, mean - 1)));
}

function makeRow() {
  const cells = {};
  const line = element("tr");
  for (const [name, , , kind] of COLUMNS) {
    const tag = name === "target" ? "th" : "td";
    cells[name] = element(tag, { className: kind ?? "" });
    if (tag === "th") cells[name].scope = "row";
    line.append(cells[name]);
  }
  const parts = {
    line,
    cells,
    count: element("span"),
    bar: element("progress"),
    picture: intervalPicture(),
    estimate: element("div"),
    cases: element("div", { className: "quiet" }),
  };
  cells.ended.append(parts.count, parts.bar);
  cells.estimate.append(parts.estimate, parts.picture, parts.cases);
  return parts;
}

function drawRow(parts, row) {
  say(parts.cells.agent, row.agent);
  say(parts.cells.target, row.target);
  say(parts.count, row.ended_text);
  parts.bar.max = Math.max(1, row.planned);
  parts.bar.value = row.ended;
  parts.bar.setAttribute("aria-label", `trials ended of ${row.target} at ${row.agent}`);
  say(parts.estimate, row.estimate_text);
  say(parts.cases, row.cases_text || "\u00a0");
  placeInterval(parts.picture, row.interval);
  say(parts.cells.failures, row.failures_text);
  say(parts.cells.mean, row.mean_text);
  say(parts.cells.left, row.left_text);
  say(parts.cells.spend, row.spend_text);
}

function render({ model, el }) {
  const title = element("h3");
  const stage = element("p", { role: "status" });
  const error = element("p", { className: "alarm", role: "alert" });
  const bar = element("progress");
  bar.setAttribute("aria-label", "trials ended of the whole sweep");
  const pause = element("button", { type: "button" });
  const stop = element("button", { type: "button" });
  const facts = element("dl");
  const body = element("tbody");
  const heads = COLUMNS.map(([, text, width, kind]) => {
    const head = element("th", { scope: "col", className: kind ?? "" }, text);
    head.style.width = width;
    return head;
  });
  const scroll = element(
    "div",
    { className: "scroll", tabIndex: 0, role: "region" },
    element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body),
  );
  scroll.setAttribute("aria-label", "figures by agent and target");
  const note = element("p", { className: "quiet" });
  const rows = new Map();

  pause.addEventListener("click", () => model.send({ do: pause.dataset.do }));
  stop.addEventListener("click", () => model.send({ do: "stop" }));

  function draw() {
    const state = model.get("state");
    say(title, `Sweep ${state.name}`);
    say(stage, state.stage_text);
    say(error, state.error);
    error.hidden = !state.error;
    bar.max = Math.max(1, state.planned);
    bar.value = state.ended;
    pause.hidden = state.attached;
    pause.dataset.do = state.can.resume ? "resume" : "pause";
    say(pause, state.can.resume ? "Resume" : "Pause");
    pause.disabled = !state.can.pause && !state.can.resume;
    say(stop, state.attached ? "Stop watching" : "Stop");
    stop.disabled = !state.can.stop;
    facts.replaceChildren(
      ...state.facts.flatMap(([name, text]) => [
        element("dt", {}, name),
        element("dd", {}, text),
      ]),
    );
    for (const row of state.rows) {
      if (!rows.has(row.id)) {
        rows.set(row.id, makeRow());
        body.append(rows.get(row.id).line);
      }
      drawRow(rows.get(row.id), row);
    }
    say(note, state.note);
  }

  el.replaceChildren(
    element(
      "section",
      { className: "soma-panel soma-sweep" },
      title,
      stage,
      element("div", { className: "bar" }, bar, pause, stop),
      error,
      facts,
      scroll,
      note,
    ),
  );
  model.on("change:state", draw);
  draw();
  return () => model.off("change:state", draw);
}

export default { render };
