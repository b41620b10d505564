// The form: every demand has a label and, beside its slider, an exact number.

const GIB = 2 ** 30;
const ORDERS = [
  ["quality,latency,cost", "quality, then latency, then cost"],
  ["quality,cost,latency", "quality, then cost, then latency"],
  ["latency,quality,cost", "latency, then quality, then cost"],
  ["latency,cost,quality", "latency, then cost, then quality"],
  ["cost,quality,latency", "cost, then quality, then latency"],
  ["cost,latency,quality", "cost, then latency, then quality"],
  ["weights", "a weighted sum"],
];
const WEIGHTS = [
  ["quality", "Weight of quality", "per unit", 10],
  ["latency_per_s", "Weight of latency", "per s", 1],
  ["cost_per_usd_per_1000", "Weight of cost", "per $ / 1000", 1],
];
const TOLERANCES = [
  ["quality_tolerance", "Quality to give up", "of 5", 1],
  ["latency_tolerance_s", "Latency to give up", "s", 60],
  ["cost_tolerance_usd_per_1000", "Cost to give up", "$ / 1000", 50],
];

// A slider with its exact number; `optional` adds the box that says whether there is a limit.
function figure({ label, of = "", note = "", unit, min = 0, max, step, optional = false, change }) {
  const id = newId();
  const name = `${label}${of && ` of ${of}`} in ${unit}`;
  const slider = html("input", { type: "range", min, max, step, "aria-label": name });
  const number = html("input", { type: "number", id, min, step: "any", "aria-label": `${name}, exact` });
  const box = optional ? html("input", { type: "checkbox", "aria-label": `Set a limit: ${label}` }) : null;
  const report = (value) => change(box && !box.checked ? null : value);
  const enable = () => {
    const off = Boolean(box) && !box.checked;
    slider.disabled = off;
    number.disabled = off;
  };
  slider.addEventListener("input", () => {
    number.value = slider.value;
    report(Number(slider.value));
  });
  number.addEventListener("input", () => {
    if (number.value === "" || !number.checkValidity()) return;
    slider.value = number.value;
    report(Number(number.value));
  });
  box?.addEventListener("change", () => {
    enable();
    report(Number(number.value));
  });
  const caption = html("label", { class: "st-name", for: id }, label, html("span", { class: "st-quiet" }, note && ` ${note}`));
  const head = box ? html("span", { class: "st-head" }, box, caption) : caption;
  return {
    node: html("div", { class: "st-figure" }, head, slider, number, html("span", { class: "st-unit" }, unit)),
    show(value) {
      if (box) box.checked = known(value);
      if (known(value) || number.value === "") {
        const shown = known(value) ? value : max;
        if (Number(number.value) !== shown || number.value === "") number.value = +shown.toPrecision(12);
        slider.value = shown;
      }
      enable();
    },
  };
}

function choice({ label, of = "", wide = false, options, change }) {
  const id = newId();
  const select = html(
    "select",
    { id, "aria-label": of ? `${label} of ${of}` : null, onchange: () => change(select.value) },
    ...options.map(([value, text]) => html("option", { value }, text)),
  );
  return {
    node: html("div", { class: wide ? "st-choice st-wide" : "st-choice" }, html("label", { class: "st-name", for: id }, label), select),
    select,
    show: (value) => (select.value = value),
  };
}

function tick({ label, name = null, change }) {
  const box = html("input", { type: "checkbox", "aria-label": name, onchange: () => change(box.checked) });
  return {
    node: html("label", { class: "st-tick" }, box, ` ${label}`),
    show: (value) => (box.checked = value),
  };
}

// Which targets of an agent may play.
function players(agent, change) {
  const summary = html("summary");
  const boxes = agent.targets.map((target) => html("input", { type: "checkbox", value: target.target }));
  const report = () => {
    count();
    change(boxes.filter((box) => !box.checked).map((box) => box.value));
  };
  const count = () => {
    const playing = boxes.filter((box) => box.checked).length;
    say(summary, `${playing} of ${boxes.length} targets may play`);
  };
  const all = (checked) => () => {
    for (const box of boxes) box.checked = checked;
    report();
  };
  const lines = agent.targets.map((target, place) => {
    boxes[place].addEventListener("change", report);
    const marks = (target.local ? "" : " (cloud)") + (target.synthetic ? " (synthetic)" : "");
    return html("label", { class: "st-tick", title: target.target }, boxes[place], ` ${target.label}${marks}`);
  });
  const button = (text, checked) =>
    html("button", { type: "button", "aria-label": `${text} targets of ${agent.title}`, onclick: all(checked) }, text);
  return {
    node: html(
      "details",
      { class: "st-players" },
      summary,
      html("div", { class: "st-buttons" }, button("All", true), button("None", false)),
      html("div", { class: "st-list", role: "group", "aria-label": `Targets of ${agent.title}` }, ...lines),
    ),
    show(excluded) {
      for (const box of boxes) box.checked = !excluded.includes(box.value);
      count();
    },
  };
}

function agentForm(agent, edit) {
  const set = (field, value, none) =>
    edit(({ constraints }) => {
      const { [agent.name]: _, ...others } = constraints[field] ?? {};
      constraints[field] = value === none ? others : { ...others, [agent.name]: value };
    });
  const floor = figure({
    label: "Quality floor",
    of: agent.title,
    note: agent.metric,
    unit: "0 to 1",
    max: 1,
    step: 0.01,
    change: (value) => set("quality_floors", value, 0),
  });
  const privacy = choice({
    label: "Privacy",
    of: agent.title,
    options: [
      ["local_only", "local only"],
      ["deidentified", "de-identified"],
      ["open", "open"],
    ],
    change: (value) => set("privacy", value),
  });
  const fallback = tick({
    label: "needs a fallback",
    name: `${agent.title} needs a fallback`,
    change: (value) =>
      edit(({ constraints }) => {
        constraints.require_fallback = { ...needs(constraints), [agent.name]: value };
      }),
  });
  const playing = players(agent, (excluded) =>
    edit((demands) => (demands.excluded = { ...demands.excluded, [agent.name]: excluded })),
  );
  return {
    node: html(
      "fieldset",
      { class: "st-agent" },
      html("legend", {}, agent.title),
      floor.node,
      html("div", { class: "st-pair" }, privacy.node, fallback.node),
      playing.node,
    ),
    show(demands) {
      floor.show(demands.constraints.quality_floors[agent.name] ?? 0);
      privacy.show(demands.constraints.privacy[agent.name] ?? "local_only");
      fallback.show(needs(demands.constraints)[agent.name] ?? false);
      playing.show(demands.excluded[agent.name] ?? []);
    },
  };
}

const AGENT_NAMES = ["alignment", "radiologist", "pathologist", "report_writer", "qc_reviewer"];

function needs(constraints) {
  const asked = constraints.require_fallback;
  return typeof asked === "boolean" ? Object.fromEntries(AGENT_NAMES.map((name) => [name, asked])) : asked;
}

// What is best: an order of goals with tolerances, or weights.
function objectiveForm(edit) {
  const set = (objective) => edit((demands) => (demands.objective = objective));
  const goal = choice({
    label: "What is best",
    wide: true,
    options: ORDERS,
    change: (value) => {
      if (value === "weights") set({ quality: 1, latency_per_s: 0.01, cost_per_usd_per_1000: 0.01 });
      else set(value === ORDERS[0][0] ? "quality_latency_cost" : { order: value.split(",") });
    },
  });
  const many = (fields) =>
    fields.map(([field, label, unit, max]) => ({
      field,
      ...figure({
        label,
        unit,
        max,
        step: max / 100,
        change: (value) =>
          edit((demands) => {
            const now = demands.objective === "quality_latency_cost" ? { order: ORDERS[0][0].split(",") } : demands.objective;
            demands.objective = { ...now, [field]: value };
          }),
      }),
    }));
  const weights = many(WEIGHTS);
  const tolerances = many(TOLERANCES);
  const rows = html("div", { class: "st-weights" });
  return {
    node: html("div", {}, goal.node, rows),
    show({ objective }) {
      const weighted = typeof objective === "object" && !("order" in objective);
      const order = typeof objective === "object" && !weighted ? objective.order.join(",") : ORDERS[0][0];
      goal.show(weighted ? "weights" : order);
      const wanted = weighted ? weights : tolerances;
      if (rows.firstChild !== wanted[0].node) rows.replaceChildren(...wanted.map((row) => row.node));
      for (const row of wanted) row.show(objective[row.field] ?? 0);
    },
  };
}

function wholeForm(sheet, edit) {
  const set = (field) => (value) => edit(({ constraints }) => (constraints[field] = value));
  const { latency_s: latency, cost_usd_per_1000: cost, memory_gib: memory } = sheet.ranges;
  const percentile = choice({
    label: "Latency that counts",
    options: [
      ["p95", "p95"],
      ["p50", "p50"],
    ],
    change: set("latency"),
  });
  const order = choice({
    label: "Radiologist and Pathologist run",
    wide: true,
    options: [
      ["sequential", "one after the other (sequential)"],
      ["parallel", "side by side (parallel)"],
      ["either", "whichever is better"],
    ],
    change: (value) => edit((demands) => (demands.pipeline = value)),
  });
  const limits = [
    [figure({ label: "Latency limit", unit: "s", min: latency.step, ...latency, optional: true, change: set("max_latency_s") }), (c) => c.max_latency_s],
    [figure({ label: "Cost limit", unit: "$ / 1000", ...cost, optional: true, change: set("max_cost_usd_per_1000") }), (c) => c.max_cost_usd_per_1000],
    [
      figure({
        label: "Memory limit",
        unit: "GiB",
        min: memory.step,
        ...memory,
        optional: true,
        change: (value) =>
          edit(({ constraints }) => {
            constraints.max_memory_bytes = known(value) ? Math.floor(value * GIB) : null;
            if (!known(value)) delete constraints.may_swap;
          }),
      }),
      (c) => (known(c.max_memory_bytes) ? c.max_memory_bytes / GIB : null),
    ],
  ];
  const swap = tick({ label: "load models in turn where not all fit", change: set("may_swap") });
  const objective = objectiveForm(edit);
  return {
    node: html(
      "fieldset",
      {},
      html("legend", {}, "Whole analysis"),
      ...limits.map(([row]) => row.node),
      swap.node,
      percentile.node,
      order.node,
      objective.node,
    ),
    show(demands) {
      for (const [row, read] of limits) row.show(read(demands.constraints));
      swap.show(demands.constraints.may_swap ?? false);
      swap.node.firstChild.disabled = !known(demands.constraints.max_memory_bytes);
      percentile.show(demands.constraints.latency);
      order.show(demands.pipeline);
      objective.show(demands);
    },
  };
}

function moreForm(sheet, edit) {
  const set = (field) => (value) => edit(({ constraints }) => (constraints[field] = value));
  const floorOn = choice({
    label: "Floors are held by",
    options: [
      ["low", "the interval's lower end"],
      ["mean", "the mean"],
    ],
    change: set("floor_on"),
  });
  const apart = choice({
    label: "A fallback is another",
    options: [
      ["target", "target"],
      ["provider", "provider"],
      ["machine", "machine"],
    ],
    change: set("fallback_apart"),
  });
  const degraded = figure({
    label: "With a stage on its fallback, at most",
    unit: "s",
    min: sheet.ranges.latency_s.step,
    ...sheet.ranges.latency_s,
    optional: true,
    change: set("max_degraded_latency_s"),
  });
  const rate = figure({
    label: "Calls that fall back",
    unit: "share",
    max: 1,
    step: 0.01,
    optional: true,
    change: set("fallback_rate"),
  });
  const contention = figure({
    label: "Slower side by side",
    unit: "times",
    min: 1,
    max: 10,
    step: 0.1,
    change: set("contention"),
  });
  const synthetic = tick({ label: "synthetic weights may play (tests only)", change: set("allow_synthetic") });
  return {
    node: html(
      "details",
      { class: "st-more" },
      html("summary", {}, "More demands"),
      floorOn.node,
      apart.node,
      degraded.node,
      rate.node,
      contention.node,
      synthetic.node,
    ),
    show({ constraints }) {
      floorOn.show(constraints.floor_on);
      apart.show(constraints.fallback_apart ?? "target");
      degraded.show(constraints.max_degraded_latency_s ?? null);
      rate.show(constraints.fallback_rate ?? null);
      contention.show(constraints.contention ?? 1);
      synthetic.show(constraints.allow_synthetic);
    },
  };
}

// `edit` takes a function that changes a copy of the demands.
function buildForm(sheet, edit) {
  const parts = [
    wholeForm(sheet, edit),
    ...sheet.agents.map((agent) => agentForm(agent, edit)),
    moreForm(sheet, edit),
  ];
  return {
    node: html("form", { class: "st-form", onsubmit: (event) => event.preventDefault() }, ...parts.map((part) => part.node)),
    show(demands) {
      for (const part of parts) part.show(demands);
    },
  };
}
