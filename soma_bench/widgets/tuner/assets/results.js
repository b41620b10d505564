// The results: the verdict, the routing as a table, what to know beside it, and the pictures.

const ROLES = ["primary", "fallback"];

function routingTable(sheet) {
  const columns = ["Agent", "Target", "Quality [95 % interval]", "p50, p95", "$ / 1000 calls"];
  // A cell holds one or two texts: beside each other where there is room, else below.
  const cell = (count) => html("td", {}, ...Array.from({ length: count }, () => html("span")));
  const cells = sheet.agents.map(() => ROLES.map(() => [cell(1), cell(2), cell(2), cell(1)]));
  const reasons = sheet.agents.map(() => html("div", { class: "st-why" }));
  const head = (title, role) => html("th", { scope: "row" }, role === "primary" ? title : role);
  const bodies = sheet.agents.map((agent, index) =>
    html(
      "tbody",
      {},
      ...ROLES.map((role, place) =>
        html("tr", { class: `st-${role}` }, head(agent.title, role), ...cells[index][place]),
      ),
      html(
        "tr",
        { class: "st-reason" },
        head("", "why"),
        html("td", { colspan: columns.length - 1 }, reasons[index]),
      ),
    ),
  );
  const write = (row, target, none) => {
    const texts = target
      ? [
          [target.label + (target.synthetic ? " *" : "")],
          [asQuality(target.quality), `[${asQuality(target.low)}, ${asQuality(target.high)}]`],
          [asSeconds(target.p50_s), asSeconds(target.p95_s)],
          [asUsd(target.usd_per_1000)],
        ]
      : [[none], ["", ""], ["", ""], [""]];
    row.forEach((cell, column) =>
      [...cell.children].forEach((span, place) => say(span, texts[column][place])),
    );
    row[0].title = target?.target ?? "";
  };
  return {
    node: html(
      "table",
      { class: "st-table" },
      html("caption", {}, "Chosen routing"),
      html("thead", {}, html("tr", {}, ...columns.map((column) => html("th", { scope: "col" }, column)))),
      ...bodies,
    ),
    show(answer) {
      const chosen = answer.state === "chosen";
      sheet.agents.forEach((agent, index) => {
        const choice = chosen ? answer.choices[index] : null;
        const fallback = choice && known(choice.fallback) ? agent.targets[choice.fallback] : null;
        write(cells[index][0], choice && agent.targets[choice.primary], "–");
        write(cells[index][1], fallback, chosen ? "none" : "–");
        say(reasons[index], choice?.why ?? "");
        reasons[index].title = choice?.why ?? "";
      });
    },
  };
}

function verdict(answer) {
  if (answer.state === "error") return `This cannot be answered: ${answer.message}`;
  if (answer.state === "infeasible") {
    const parts = answer.conflict.map(({ name, would_do }) => (would_do ? `${name} (${would_do} would do)` : name));
    return `Nothing fits. ${parts.length > 1 ? "These stand against each other: " : "In the way: "}${parts.join("; ")}.`;
  }
  const limits = answer.limits
    .filter((limit) => limit.unit !== "quality")
    .map((limit) => `${limit.name}: ${asLimit(limit, limit.used)} used`);
  const figures = [
    `quality ${asInterval({ quality: answer.quality, low: answer.quality_low, high: answer.quality_high })} of 5`,
    `p50 ${asSeconds(answer.latency_p50_s)}`,
    `p95 ${asSeconds(answer.latency_p95_s)}`,
    `${asUsd(answer.usd_per_1000)} per 1000 analyses`,
    `${asGib(answer.memory.peak_bytes)} in memory`,
    answer.pipeline,
  ];
  const room = limits.length ? ` ${limits.join("; ")}.` : "";
  const synthetic = answer.synthetic ? " * Synthetic weights are among them: no evidence about a model anyone would deploy." : "";
  return `Chosen: ${figures.join(", ")}.${room}${synthetic}`;
}

function buildResults(sheet, actions) {
  const said = html("p", { class: "st-verdict", role: "status", "aria-live": "polite" });
  const table = routingTable(sheet);
  const items = Array.from({ length: 4 }, () => html("li"));
  const beside = html("ul", { class: "st-beside-list", "aria-label": "What to know beside the choice" }, ...items);
  const front = frontPicture();
  const targets = targetsPicture(sheet);
  const time = clockPicture(sheet);
  const memory = memoryPicture(sheet);
  let answer = null;
  let parts = { revision: -1, parts: {} };

  const showBeside = () => {
    const fresh = answer && parts.revision === answer.revision;
    const lines =
      answer?.state === "chosen"
        ? ["binding", "prices", "second"].map((name) => parts.parts[name]?.text ?? (fresh ? "…" : ""))
        : [];
    if (answer?.state === "chosen") lines.splice(2, 0, answer.doubts);
    items.forEach((item, place) => {
      const text = lines[place] ?? "";
      say(item, text);
      item.hidden = !text;
      item.className = fresh || text === answer?.doubts ? "" : "st-stale";
    });
    const points = parts.parts.front?.points ?? null;
    front.show({ answer, ...(points ? { points } : {}), fresh: Boolean(fresh && points) });
  };

  return {
    node: html(
      "div",
      { class: "st-results" },
      said,
      table.node,
      beside,
      actions,
      html("div", { class: "st-pictures" }, front.node, html("div", {}, time.node, memory.node)),
      targets.node,
    ),
    showAnswer(next, demands) {
      answer = next;
      say(said, verdict(next));
      said.classList.toggle("st-no", next.state !== "chosen");
      table.show(next);
      const { constraints, excluded } = demands;
      const percentile = constraints.latency;
      front.show({ percentile });
      targets.show({ answer, percentile, excluded });
      time.show({ answer, limit: constraints.max_latency_s });
      memory.show({ answer, limit: constraints.max_memory_bytes });
      showBeside();
    },
    showParts(next) {
      parts = next;
      showBeside();
    },
  };
}
