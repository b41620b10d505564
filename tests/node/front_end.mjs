// The service as a browser's page uses it: fetch, a reader, lines that begin with "data: ".
// An own client for tests; it reads streams in the way that front ends of this API do.

export async function* events(base, path, body, signal) {
  const response = await fetch(base + path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    credentials: 'include',
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) {
    throw Object.assign(new Error(`HTTP ${response.status}`), {
      status: response.status,
      body: await response.json(),
    });
  }
  const kind = response.headers.get('content-type') ?? '';
  if (!kind.includes('text/event-stream')) throw new Error(`not a stream: ${kind}`);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      rest += decoder.decode(value, { stream: true });
      const lines = rest.split('\n');
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith('data: ')) yield JSON.parse(line.slice('data: '.length));
      }
    }
  } finally {
    // Also where the page stops reading in the middle.
    await reader.cancel().catch(() => {});
  }
}

export async function collect(stream) {
  const all = [];
  for await (const event of stream) all.push(event);
  return all;
}

export async function post(base, path, body) {
  const response = await fetch(base + path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}
