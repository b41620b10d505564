"""A loopback server of OpenAI's API whose models answer as the agents' own worked examples do.

What is asked about ``mark-N`` is answered with the same mark in the report and in a talk, so that a
test sees whose answer it has got. ``python tests/agent_server.py SECONDS`` serves on its own until
standard input ends; each answer then waits so long, and the address is printed first.
"""

from __future__ import annotations

import asyncio
import copy
import re
import sys
from typing import Any

from servers.base import Recorded, Reply
from servers.openai import OpenAIServer
from soma_bench.agents import AGENT_BY_NAME

MODEL = "gpt-4o"
_MARK = re.compile(r"mark-[\w-]+")


class AgentServer(OpenAIServer):
    """Args:
    pause_s: wait before each answer.
    """

    def __init__(self, pause_s: float = 0.0) -> None:
        super().__init__()
        self.pause_s = pause_s

    async def answer(self, request: Recorded, reply: Reply) -> None:
        if request.path != "/v1/chat/completions":
            await super().answer(request, reply)
            return
        body = request.json()
        # Looking for clients that leave costs something, and is left out where nobody asks for it.
        await (reply.pause(self.pause_s) if self.record else asyncio.sleep(self.pause_s))
        text = answer_to(body["messages"])
        if body.get("stream"):
            speaker = copy.copy(self)  # the texts of answers at the same time are not one another's
            speaker.text = [f"{word} " for word in text.split(" ")]
            await reply.pieces(
                speaker.chunks(body["model"], with_usage=True),
                content_type="text/event-stream",
                fault=self.fault,
            )
            return
        message = {"role": "assistant", "content": text, "refusal": None}
        whole = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"]}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        await reply.json({**whole, "choices": choices, "usage": self.usage}, fault=self.fault)


def answer_to(messages: list[dict[str, Any]]) -> str:
    """What the agent that is asked answers."""
    content = messages[-1]["content"]
    asked = content if isinstance(content, str) else " ".join(p.get("text", "") for p in content)
    found = _MARK.search(asked)
    mark = found[0] if found else ""
    for agent in AGENT_BY_NAME.values():
        if agent.system == messages[0]["content"]:
            # The first example finds something, and the first review passes.
            text = agent.write(agent.examples[0][1])
            if agent.name == "report_writer":
                return text.replace("## Technique", f"{mark}\n\n## Technique", 1)
            if agent.name == "alignment":
                return _intent(asked)
            return text
    return f"It lies in the left lower lobe. {mark}"


def _intent(asked: str) -> str:
    """A question where the message has a question mark, else a revision by the report's writer."""
    intent, handler = (
        ("QUESTION", "radiologist")
        if asked.rstrip().endswith("?")
        else ("REVISION", "report_writer")
    )
    return f'{{"intent":"{intent}","handler":"{handler}","asked":"it","confidence":95}}'


def main() -> None:
    with AgentServer(float(sys.argv[1])) as server:
        server.record = False
        print(server.base_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
