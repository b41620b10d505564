// A front end's whole session with running services. SERVICE_URL answers at once, the models behind
// SERVICE_SLOW_URL take their time, and those behind SERVICE_BROKEN_URL fail.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { collect, events, post } from './front_end.mjs';

const base = process.env.SERVICE_URL;
const slow = process.env.SERVICE_SLOW_URL;
const broken = process.env.SERVICE_BROKEN_URL;
const request = JSON.parse(readFileSync(process.env.SERVICE_REQUEST, 'utf8'));
const steps = [
  'phase1_start', 'radiologist_done', 'phase2_start', 'pathologist_done',
  'phase3_start', 'report_draft_done', 'phase4_start', 'analysis_complete',
];
const kinds = (all) => all.map((event) => event.type);
const words = (all) => all.filter(({ type }) => type === 'chunk').map(({ text }) => text).join('');

/** A conversation on a report; `prefix` is where the API is looked for. */
function conversation(prefix, sessionId) {
  return (body) =>
    collect(events(base, `${prefix}/chat_stream`, { message: 'Where is it?', sessionId, ...body }));
}

/** What a session can do once there is a report. */
async function talk(prefix, sessionId) {
  const ask = conversation(prefix, sessionId);
  const auto = await ask({ mode: 'auto' });
  assert.deepEqual(auto[0], { type: 'session', sessionId });
  assert.deepEqual(auto[1], { type: 'intent', intent: 'QUESTION', confidence: 0.95 });
  assert.match(words(auto), /left lower lobe/);
  assert.ok(kinds(auto).filter((kind) => kind === 'chunk').length > 1, 'comes piece by piece');
  assert.deepEqual(auto.at(-1), { type: 'done' });

  for (const mode of ['question', 'info']) {
    const told = await ask({ mode });
    assert.deepEqual(told[1], { type: 'intent', intent: mode.toUpperCase(), confidence: 1 });
    assert.match(words(told), /left lower lobe/);
    assert.ok(!kinds(told).includes('revision_complete'), `${mode} changes nothing`);
  }

  const titles = {
    radiologist: 'RadiologistAgent', pathologist: 'PathologistAgent',
    report_writer: 'ReportWriterAgent',
  };
  for (const [targetAgent, agent] of Object.entries(titles)) {
    const direct = await ask({ targetAgent, mode: 'question' });
    assert.deepEqual(
      direct[1], { type: 'intent', intent: 'DIRECT_AGENT', confidence: 1, targetAgent, agent });
    assert.match(words(direct), /left lower lobe/);
    assert.deepEqual(direct.at(-1), { type: 'done' });
  }

  const revisions = [
    { mode: 'revision' }, { mode: 'auto' }, { targetAgent: 'report_writer' },
    { mode: 'revision', targetAgent: 'pathologist' },
  ];
  for (const body of revisions) {
    const revised = await ask({ message: 'Make it shorter.', ...body });
    assert.ok(kinds(revised).includes('status'));
    assert.ok(kinds(revised).includes('progress'));
    const last = revised.at(-2);
    assert.equal(last.type, 'revision_complete');
    assert.match(last.updatedReport, /## Findings/);
    assert.ok(Array.isArray(last.changes));
    assert.deepEqual(revised.at(-1), { type: 'done' });
  }

  const feedback = async (userMessage) => {
    const { status, body } = await post(base, `${prefix}/medical_report_rein`, {
      userMessage, sessionId,
    });
    assert.equal(status, 200);
    assert.deepEqual(Object.keys(body).sort(), ['changes', 'reply', 'sessionId', 'updatedReport']);
    assert.equal(body.sessionId, sessionId);
    return body;
  };
  assert.equal((await feedback('Where is it?')).updatedReport, null);
  assert.match((await feedback('Make it shorter.')).updatedReport, /## Findings/);

  const at = `${base}${prefix}/session/${sessionId}`;
  assert.deepEqual(await (await fetch(at)).json(), {
    sessionId, state: 'draft_ready', hasReport: true,
  });
  assert.deepEqual(await (await fetch(at, { method: 'DELETE' })).json(), {
    message: 'Session closed',
  });
  assert.equal((await fetch(at)).status, 404);
}

for (const prefix of ['', '/api']) {
  test(`a report by stream, and all that can be said about it, at "${prefix}"`, async () => {
    const report = await collect(events(base, `${prefix}/medical_report_stream`, request));
    assert.equal(report[0].type, 'session');
    assert.deepEqual(
      report.filter((event) => event.type === 'progress').map((event) => event.step), steps);
    for (const log of report.filter((event) => event.type === 'log')) {
      assert.deepEqual(Object.keys(log).sort(), ['agent', 'level', 'message', 'step', 'type']);
    }
    const complete = report.at(-2);
    assert.equal(complete.type, 'complete');
    assert.match(complete.report, /^## Patient Information/m);
    assert.equal(typeof complete.qcScore, 'number');
    assert.deepEqual(report.at(-1), { type: 'done' });
    await talk(prefix, report[0].sessionId);
  });

  test(`a report in one answer, and all that can be said about it, at "${prefix}"`, async () => {
    const { status, body } = await post(base, `${prefix}/medical_report_init`, request);
    assert.equal(status, 200);
    assert.equal(body.message, 'Medical report generated successfully');
    assert.match(body.report, /## Findings/);
    assert.deepEqual(Object.keys(body.metadata).sort(), ['generationTime', 'qcPassed', 'qcScore']);
    await talk(prefix, body.sessionId);
  });
}

test('errors are JSON with an error, before a stream begins', async () => {
  const refused = async (path, body, status, error) => {
    assert.deepEqual(await post(base, path, body), { status, body: { error } });
  };
  for (const path of ['/api/medical_report_init', '/medical_report_stream']) {
    await refused(path, {}, 400, 'No final_image provided');
    for (const image of ['no base64!', btoa('no picture'), request.final_image.slice(0, -40)]) {
      const { status, body } = await post(base, path, { ...request, final_image: image });
      assert.equal(status, 400, image.slice(0, 40));
      assert.match(body.error, /^final_image: /);
    }
  }
  await refused('/api/medical_report_rein', {}, 400, 'No userMessage provided');
  await assert.rejects(collect(events(base, '/chat_stream', {})), {
    status: 400, body: { error: 'No message provided' },
  });
  const { status, body } = await post(base, '/chat_stream', { message: 'Why?', mode: 'guess' });
  assert.equal(status, 422);
  assert.match(body.error, /^mode: /);
  for (const early of [{}, { mode: 'revision' }, { targetAgent: 'radiologist' }]) {
    const told = await collect(events(base, '/chat_stream', { message: 'Why?', ...early }));
    assert.match(words(told), /generate a report first/);
    assert.deepEqual(told.at(-1), { type: 'done' });
  }
  const { body: answer } = await post(base, '/medical_report_rein', { userMessage: 'Why?' });
  assert.match(answer.reply, /generate a report first/);
});

test('a model that fails is a 500 with details, and in a stream an error and done', async () => {
  const { status, body } = await post(broken, '/api/medical_report_init', request);
  assert.equal(status, 500);
  assert.equal(body.error, 'Report generation failed');
  assert.equal(typeof body.details, 'string');
  const told = await collect(events(broken, '/api/medical_report_stream', request));
  assert.equal(told[0].type, 'session');
  assert.deepEqual(kinds(told).slice(-2), ['error', 'done']);
  assert.equal(typeof told.at(-2).error, 'string');
  const session = await fetch(`${broken}/session/${told[0].sessionId}`);
  assert.equal((await session.json()).hasReport, false);
});

test('a page that is closed ends its stream, and the service goes on', async () => {
  const controller = new AbortController();
  await assert.rejects(async () => {
    for await (const event of events(slow, '/medical_report_stream', request, controller.signal)) {
      if (event.type === 'session') setTimeout(() => controller.abort(), 500);
    }
  }, { name: 'AbortError' });
  const waiting = new AbortController();
  setTimeout(() => waiting.abort(), 500);
  await assert.rejects(
    fetch(`${slow}/medical_report_init`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(request),
      signal: waiting.signal,
    }),
    { name: 'AbortError' },
  );
  for (let turn = 0; ; turn += 1) {
    const { openRequests } = await (await fetch(`${slow}/health`)).json();
    if (openRequests === 0) break;
    assert.ok(turn < 100, 'the work of the page goes on');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

test('a talk that is broken off leaves its report to be talked about', async () => {
  const { body } = await post(base, '/api/medical_report_init', request);
  const { sessionId } = body;
  const controller = new AbortController();
  const asked = { message: 'Where is it?', sessionId, mode: 'question' };
  await assert.rejects(async () => {
    for await (const event of events(base, '/chat_stream', asked, controller.signal)) {
      if (event.type === 'intent') controller.abort();
    }
  }, { name: 'AbortError' });
  const again = await conversation('/api', sessionId)({ mode: 'question' });
  assert.match(words(again), /left lower lobe/);
});

test('sessions of several pages at the same time are not mixed', async () => {
  const marks = Array.from({ length: 8 }, (_, number) => `mark-${number}`);
  await Promise.all(marks.map(async (mark) => {
    const asked = { ...request, clinicalContext: { clinicalIndication: `Cough, ${mark}.` } };
    const report = await collect(events(base, '/medical_report_stream', asked));
    assert.deepEqual([...new Set(JSON.stringify(report).match(/mark-\d+/g))], [mark]);
  }));
});
