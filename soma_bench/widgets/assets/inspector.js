// Draws a page of a run's trials with its filters, and the trial that is open.

const COLUMNS = [
  ["", "8%"],
  ["Agent", "11%"],
  ["Target", "24%"],
  ["Case", "17%"],
  ["How it ended", "11%"],
  ["Score", "7%", "number"],
  ["Time", "7%", "number"],
  ["Tokens", "7%", "number"],
  ["Flags", "8%"],
];
const CELLS = ["agent", "target", "case", "outcome", "score", "time", "tokens", "flags"];
const ORDERS = [
  ["plan", "as planned"],
  ["worst", "lowest score first"],
  ["slowest", "slowest first"],
];

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function labelled(text, control) {
  return element("label", {}, element("span", {}, text), control);
}

function fill(select, options) {
  const before = JSON.stringify(options);
  if (select.dataset.options === before) return;
  select.dataset.options = before;
  select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
}

function number(input) {
  return input.value === "" ? null : input.valueAsNumber;
}

function render({ model, el }) {
  const title = element("h3");
  const controls = {
    agent: element("select"),
    target: element("select"),
    outcome: element("select"),
    case: element("input", { type: "text" }),
    score_low: element("input", { type: "number", min: 0, max: 1, step: 0.01 }),
    score_high: element("input", { type: "number", min: 0, max: 1, step: 0.01 }),
    text: element("input", { type: "search" }),
  };
  const order = element("select");
  const clear = element("button", { type: "button" }, "Clear filters");
  const error = element("p", { className: "alarm", role: "alert" });
  const status = element("span", { role: "status" });
  const previous = element("button", { type: "button" }, "Previous");
  const next = element("button", { type: "button" }, "Next");
  const page = element("input", { type: "number", min: 1, step: 1 });
  const pages = element("span");
  const body = element("tbody");
  const heads = COLUMNS.map(([text, width, kind]) => {
    const head = element(text ? "th" : "td", { className: kind ?? "" }, text);
    if (text) head.scope = "col";
    head.style.width = width;
    return head;
  });
  const scroll = element(
    "div",
    { className: "scroll", tabIndex: 0, role: "region" },
    element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body),
  );
  scroll.setAttribute("aria-label", "trials");
  const compare = element("select");
  const comparing = element("p", {}, labelled("Compare with another answer to this case", compare));
  const trial = element("div");
  const opened = element("div", { className: "trial", hidden: true }, comparing, trial);
  let shown = "";
  let asked = "";
  let filtered = "";

  function send(command) {
    status.textContent = "Looking …";
    model.send(command);
  }

  function asCommand(valueOf, ordered) {
    const wanted = Object.entries(controls).map(([name, control]) => [name, valueOf(name, control)]);
    return { do: "filter", filter: Object.fromEntries(wanted), order: ordered };
  }

  function filter() {
    // Asked once: leaving a field after Enter must not go back to the first page.
    const read = (_, control) => (control.type === "number" ? number(control) : control.value);
    const command = asCommand(read, order.value);
    if (JSON.stringify(command) === filtered) return;
    filtered = JSON.stringify(command);
    send(command);
  }

  for (const control of [...Object.values(controls), order]) {
    control.addEventListener("change", filter);
    control.addEventListener("keydown", (event) => event.key === "Enter" && filter());
  }
  clear.addEventListener("click", () => {
    for (const control of Object.values(controls)) control.value = "";
    filter();
  });
  previous.addEventListener("click", () => send({ do: "page", number: Number(page.value) - 1 }));
  next.addEventListener("click", () => send({ do: "page", number: Number(page.value) + 1 }));
  page.addEventListener("change", () => send({ do: "page", number: Math.trunc(number(page) ?? 1) }));
  compare.addEventListener("change", () => send({ do: "compare", key: compare.value }));

  function line(row, isOpen) {
    const button = element("button", { type: "button" }, "Open");
    button.setAttribute("aria-label", `Open ${row.case} by ${row.target}`);
    button.addEventListener("click", () => {
      asked = row.key;
      send({ do: "open", key: row.key });
    });
    const made = element("tr", {}, element("td", {}, button));
    if (isOpen) made.setAttribute("aria-selected", "true");
    CELLS.forEach((name, index) => {
      made.append(element("td", { className: COLUMNS[index + 1][2] ?? "" }, row[name]));
    });
    return made;
  }

  function drawTable(state) {
    // Rows are drawn anew only when they change: the focus stays on the button that was pressed.
    const now = JSON.stringify([state.rows, state.open]);
    if (body.dataset.rows === now) return;
    const focused = [...body.querySelectorAll("button")].indexOf(el.getRootNode().activeElement);
    body.dataset.rows = now;
    body.replaceChildren(...state.rows.map((row) => line(row, row.key === state.open)));
    if (focused >= 0) body.querySelectorAll("button")[focused]?.focus({ preventScroll: true });
  }

  function drawTrial(state) {
    opened.hidden = !state.open;
    fill(compare, [["", "none"], ...state.alike.map(({ key, label }) => [key, label])]);
    compare.value = state.other ?? "";
    comparing.hidden = state.alike.length === 0;
    if (shown === state.html) return;
    shown = state.html;
    trial.innerHTML = state.html; // made and escaped by the kernel
    if (asked === state.open) trial.querySelector("h3")?.focus();
    asked = "";
  }

  function draw() {
    const state = model.get("state");
    title.textContent = `Trials of run ${state.run}`;
    for (const name of ["agent", "target", "outcome"]) {
      const some = state.choices[name].map(({ value, label }) => [value, label]);
      fill(controls[name], [["", "all"], ...some]);
    }
    fill(order, ORDERS);
    if (!state.error) {
      const held = (name, control) => state.filter[name] ?? (control.type === "number" ? null : "");
      filtered = JSON.stringify(asCommand(held, state.order));
      order.value = state.order;
      for (const [name, control] of Object.entries(controls)) {
        // What is being typed is not taken away by the answer to what was asked before.
        if (control !== el.getRootNode().activeElement) control.value = state.filter[name] ?? "";
      }
    }
    error.textContent = state.error;
    error.hidden = !state.error;
    status.textContent = state.page.text;
    page.value = state.page.number;
    page.max = state.page.pages;
    pages.textContent = `of ${state.page.pages.toLocaleString("en")}`;
    previous.disabled = state.page.number <= 1;
    next.disabled = state.page.number >= state.page.pages;
    drawTable(state);
    drawTrial(state);
  }

  page.setAttribute("aria-label", "page");
  el.replaceChildren(
    element(
      "section",
      { className: "soma-panel soma-inspector" },
      title,
      element(
        "div",
        { className: "filters" },
        labelled("Agent", controls.agent),
        labelled("Target", controls.target),
        labelled("How it ended", controls.outcome),
        labelled("Case contains", controls.case),
        labelled("Score from (0 to 1)", controls.score_low),
        labelled("Score to (0 to 1)", controls.score_high),
        Object.assign(labelled("Answer, thinking or error contains", controls.text), {
          className: "wide",
        }),
        labelled("Order", order),
        clear,
      ),
      error,
      scroll,
      element("div", { className: "pager" }, status, previous, "Page", page, pages, next),
      opened,
    ),
  );
  model.on("change:state", draw);
  draw();
  return () => model.off("change:state", draw);
}

export default { render };
