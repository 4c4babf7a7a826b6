"""A system that computes nothing, and does what a test asks for: for the protocol's own tests."""

import os
import sys
import time

import numpy as np

from gptj.bench.protocol import serve


class FakeSystem:
    """Sleeps for the tokens that it writes; its `model` is the name of what goes wrong."""

    vocab_size = 10

    def load(self, model, dtype, train):
        print("frameworks print what they like")
        self.model = model
        if dtype == "bfloat16":
            raise NotImplementedError("no bfloat16 here")

    def prefill(self, ids):
        if self.model == "dies":
            print("Segmentation fault", file=sys.stderr, flush=True)
            os._exit(3)
        if self.model == "hangs":
            time.sleep(60)

    def decode(self, ids, count):
        time.sleep(0.002 * count)
        written = count - 1 if self.model == "ends" else count
        return np.zeros((len(ids), written), int)

    def train_step(self, ids):
        return 1.0

    def limits(self, buffer, width):
        return {"bytes": 1e9, "float32": 1e10, "bfloat16": 1e9}


if __name__ == "__main__":
    serve(FakeSystem())
