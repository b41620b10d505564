// A front end's whole session with a running service; its address is in SERVICE_URL.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { collect, events, post } from './front_end.mjs';

const base = process.env.SERVICE_URL;
const request = JSON.parse(readFileSync(process.env.SERVICE_REQUEST, 'utf8'));
const steps = [
  'phase1_start', 'radiologist_done', 'phase2_start', 'pathologist_done',
  'phase3_start', 'report_draft_done', 'phase4_start', 'analysis_complete',
];
const kinds = (all) => all.map((event) => event.type);

for (const prefix of ['', '/api']) {
  test(`a report by stream, questions and a revision of it, at "${prefix}"`, async () => {
    const report = await collect(events(base, `${prefix}/medical_report_stream`, request));
    assert.equal(report[0].type, 'session');
    const { sessionId } = report[0];
    assert.deepEqual(
      report.filter((event) => event.type === 'progress').map((event) => event.step), steps);
    const complete = report.at(-2);
    assert.equal(complete.type, 'complete');
    assert.match(complete.report, /^## Patient Information/m);
    assert.equal(typeof complete.qcScore, 'number');
    assert.deepEqual(report.at(-1), { type: 'done' });

    const ask = (body) =>
      collect(events(base, `${prefix}/chat_stream`, { message: 'Where is it?', sessionId, ...body }));
    const auto = await ask({ mode: 'auto' });
    assert.deepEqual(auto[1], { type: 'intent', intent: 'QUESTION', confidence: 0.95 });
    const text = auto.filter((event) => event.type === 'chunk').map((event) => event.text).join('');
    assert.match(text, /left lower lobe/);
    assert.ok(kinds(auto).filter((kind) => kind === 'chunk').length > 1, 'comes piece by piece');
    assert.equal(auto.at(-1).type, 'done');

    const direct = await ask({ targetAgent: 'radiologist' });
    assert.equal(direct[1].intent, 'DIRECT_AGENT');
    assert.equal(direct[1].confidence, 1);
    assert.equal(direct[1].targetAgent, 'radiologist');

    const revised = await ask({ message: 'Make it shorter.', mode: 'revision' });
    const last = revised.at(-2);
    assert.equal(last.type, 'revision_complete');
    assert.match(last.updatedReport, /## Findings/);
    assert.ok(Array.isArray(last.changes));

    const feedback = await post(base, `${prefix}/medical_report_rein`, {
      userMessage: 'Where is it?', sessionId,
    });
    assert.equal(feedback.status, 200);
    assert.equal(feedback.body.sessionId, sessionId);
    assert.equal(feedback.body.updatedReport, null);

    const session = await (await fetch(`${base}${prefix}/session/${sessionId}`)).json();
    assert.deepEqual(session, { sessionId, state: 'draft_ready', hasReport: true });
    const closed = await fetch(`${base}${prefix}/session/${sessionId}`, { method: 'DELETE' });
    assert.equal(closed.status, 200);
    assert.equal((await fetch(`${base}${prefix}/session/${sessionId}`)).status, 404);
  });
}

test('a report in one answer', async () => {
  const { status, body } = await post(base, '/api/medical_report_init', request);
  assert.equal(status, 200);
  assert.equal(body.message, 'Medical report generated successfully');
  assert.equal(typeof body.report, 'string');
  assert.deepEqual(Object.keys(body.metadata).sort(), ['generationTime', 'qcPassed', 'qcScore']);
});

test('errors are JSON with an error', async () => {
  assert.deepEqual(await post(base, '/api/medical_report_init', {}), {
    status: 400, body: { error: 'No final_image provided' },
  });
  await assert.rejects(collect(events(base, '/chat_stream', {})), {
    status: 400, body: { error: 'No message provided' },
  });
  const early = await collect(events(base, '/chat_stream', { message: 'Why?' }));
  assert.match(early.find((event) => event.type === 'chunk').text, /generate a report first/);
});

test('a page that is closed ends its stream, and the service goes on', async () => {
  const controller = new AbortController();
  await assert.rejects(async () => {
    for await (const event of events(base, '/medical_report_stream', request, controller.signal)) {
      if (event.step === 'phase1_start') controller.abort();
    }
  }, { name: 'AbortError' });
  for (let turn = 0; ; turn += 1) {
    const { openRequests } = await (await fetch(`${base}/health`)).json();
    if (openRequests === 0) break;
    assert.ok(turn < 100, 'the work of the page goes on');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});
