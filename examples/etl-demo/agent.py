"""An agent with a plan of three steps: what each tool answers is what the next one is asked. It knows of no gateway."""

import json
import urllib.request

PLAN = (
    ("extract", lambda said: {"till": 4}),
    ("transform", lambda said: {"batch": said["batch"]}),
    ("load", lambda said: {"batch": said["batch"], "currency": said["currency"]}),
)


def run(base, say=lambda tool, asked, answer: None):
    """Gives what it made of the answers."""
    answer, answers = {}, []
    for tool, asks in PLAN:
        asked = asks(answer)
        answer = call(f"{base}/tools/{tool}", asked)
        say(tool, asked, answer)
        answers.append(answer)
    return answers


def call(url, asked):
    headers = {"content-type": "application/json", "estoppel-run": "etl"}
    request = urllib.request.Request(url, json.dumps(asked).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
