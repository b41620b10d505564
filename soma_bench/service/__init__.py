"""The service: a routing profile behind the API that SOMA's front end speaks.

app        the routes, and how errors look
bodies     what comes in and what goes out, as the API has it
reading    how JSON is read
intake     a request's body as a case; ``pictures``, ``base64_files`` and ``masks`` read its parts
reports    a whole analysis; ``talk`` a doctor's message on its report
progress   the pipeline's events as the front end knows them
workroom   the loop in which models are asked, apart from the clients'
rush       requests that wait for their first byte, and go first
jobs       work on behalf of a client, which ends when the client leaves
streams    server-sent events
sessions   who is being reported on, for a while
access     who may ask, how much may be sent
metrics    what Prometheus reads
rehearsal  requests before the first one
server     uvicorn, and how it stops
"""

from __future__ import annotations

from soma_bench.service.settings import ServiceSettings

__all__ = ["ServiceSettings"]
