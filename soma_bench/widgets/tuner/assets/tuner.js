// The tuner itself: it joins form and results to the kernel, newest first.

// Export and measuring, with what they say.
function buildActions(sheet, send) {
  const id = newId();
  const name = html("input", { type: "text", id, maxlength: 64, value: sheet.profile_name });
  const exported = html("div", { class: "st-exported", role: "status" });
  const measure = html("button", { type: "button", onclick: () => send({ do: "measure" }) }, "Measure more");
  const stop = html("button", { type: "button", disabled: true, onclick: () => send({ do: "stop" }) }, "Stop");
  const bar = html("progress", { "aria-label": "Trials measured", max: 1, value: 0 });
  const progress = html("span", { class: "st-progress", role: "status" });
  const held = `${sheet.finished} of ${sheet.planned} trials are stored`;
  return {
    node: html(
      "div",
      { class: "st-actions" },
      html(
        "div",
        { class: "st-line" },
        html("label", { for: id }, "Profile's name"),
        name,
        html("button", { type: "button", class: "st-main", onclick: () => send({ do: "export", name: name.value.trim() }) }, "Export"),
        measure,
        stop,
        bar,
        progress,
      ),
      exported,
    ),
    showExport(done) {
      if (done.error) return exported.replaceChildren(html("p", { class: "st-no" }, done.error));
      if (!done.path) return exported.replaceChildren();
      const lines = done.difference;
      const compared = done.unreadable
        ? `The profile there could not be read: ${done.unreadable}`
        : lines === null
          ? `There was no ${done.against} to compare with.`
          : lines.length
            ? `What it changes against ${done.against}:`
            : `It says the same as ${done.against}.`;
      const list = lines?.length ? html("ul", { class: "st-diff" }, ...lines.map((line) => html("li", {}, line))) : null;
      return exported.replaceChildren(html("p", {}, `${done.path}: ${done.changed ? "written" : "unchanged"}. ${compared}`), ...(list ? [list] : []));
    },
    showProgress(measured) {
      const running = measured.state === "running";
      measure.disabled = running;
      stop.disabled = !running;
      bar.max = measured.total || sheet.planned || 1;
      bar.value = measured.total ? measured.done + measured.failed : sheet.finished;
      const count = measured.total ? `${measured.done} of ${measured.total}` : held;
      const failed = measured.failed ? `, ${measured.failed} failed` : "";
      progress.textContent = [count + failed, measured.says].filter(Boolean).join("; ");
      progress.title = progress.textContent;
    },
  };
}

function buildHead(model, sheet, edit, send) {
  const run = choice({
    label: "Run",
    options: model.get("_runs").map(({ id, started_at }) => [id, `${id} (${started_at.slice(0, 10)})`]),
    change: (value) =>
      edit((demands) => {
        demands.run = value;
        demands.excluded = {};
      }),
  });
  run.show(sheet.run);
  const state = html("span", { class: "st-state" });
  return {
    node: html(
      "div",
      { class: "st-top" },
      run.node,
      html(
        "div",
        { class: "st-buttons", role: "group", "aria-label": "Presets" },
        ...sheet.presets.map((preset) =>
          html("button", { type: "button", title: preset.says, onclick: () => send({ do: "preset", name: preset.name }) }, preset.title),
        ),
      ),
      state,
    ),
    showState: (text) => say(state, text),
  };
}

function render({ model, el }) {
  el.classList.add("soma-tuner");
  let demands = structuredClone(model.get("_demands"));
  let shown = -1; // revision of the answer on the screen
  let parts = null;
  const asked = new Map(); // when each revision was asked for, for the marks below

  const send = (message) => model.send(message);
  const edit = (change) => {
    demands = structuredClone(demands);
    change(demands);
    demands.revision += 1;
    asked.set(demands.revision, performance.now());
    model.set("_demands", demands);
    model.save_changes();
    parts.head.showState("choosing");
    parts.form.show(demands);
  };

  // How long a move took until its result was on the screen, for whoever measures.
  const mark = (revision) => {
    const start = asked.get(revision);
    for (const known of asked.keys()) if (known <= revision) asked.delete(known);
    if (start === undefined) return;
    requestAnimationFrame(() =>
      setTimeout(() => performance.measure("soma-tuner:move", { start, end: performance.now(), detail: { revision } })),
    );
  };

  const showAnswer = () => {
    const answer = model.get("_answer");
    // An answer on another run's targets would name the wrong ones.
    if (!answer.state || answer.revision < shown || (answer.run ?? parts.run) !== parts.run) return;
    shown = answer.revision;
    parts.results.showAnswer(answer, demands);
    parts.head.showState(answer.revision === demands.revision ? "up to date" : "choosing");
    mark(answer.revision);
  };
  const showParts = () => {
    const beside = model.get("_beside");
    if (beside.revision === shown) parts.results.showParts(beside);
  };
  const showDemands = () => {
    const next = model.get("_demands");
    if (next.revision === demands.revision) return;
    demands = structuredClone(next);
    parts.form.show(demands);
    parts.head.showState("choosing");
  };

  const build = () => {
    const sheet = model.get("_sheet");
    const actions = buildActions(sheet, send);
    parts = {
      run: sheet.run,
      head: buildHead(model, sheet, edit, send),
      form: buildForm(sheet, edit),
      results: buildResults(sheet, actions.node),
      actions,
    };
    el.replaceChildren(
      html(
        "section",
        { class: "st-frame", "aria-label": "Routing tuner" },
        parts.head.node,
        html("div", { class: "st-columns" }, parts.form.node, parts.results.node),
      ),
    );
    parts.form.show(demands);
    parts.actions.showExport(model.get("_exported"));
    parts.actions.showProgress(model.get("_measuring"));
    showAnswer();
    showParts();
  };

  build();
  const listeners = {
    "change:_sheet": build,
    "change:_demands": showDemands,
    "change:_answer": showAnswer,
    "change:_beside": showParts,
    "change:_exported": () => parts.actions.showExport(model.get("_exported")),
    "change:_measuring": () => parts.actions.showProgress(model.get("_measuring")),
  };
  for (const [event, listener] of Object.entries(listeners)) model.on(event, listener);
  return () => {
    for (const [event, listener] of Object.entries(listeners)) model.off(event, listener);
  };
}

export default { render };
