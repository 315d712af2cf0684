"""What CloudFormation's SAM transform does, by the same translator. Runs in .venv-emulator."""

from __future__ import annotations

import json
import sys

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

if __name__ == "__main__":
    told = json.load(sys.stdin)
    translator = Translator({}, Parser(), None, boto3.session.Session(region_name=told["region"]))
    print(json.dumps(translator.translate(told["template"], told["parameters"])))
