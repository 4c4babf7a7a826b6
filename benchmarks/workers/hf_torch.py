"""transformers in PyTorch, eager, as ``gptj.bench.protocol.System``."""

import torch
from transformers import GPTJForCausalLM

from gptj.bench.protocol import serve


class TransformersTorch:
    def load(self, model, dtype, train):
        self.dtype = getattr(torch, dtype)
        stored = torch.float32 if train else self.dtype
        self.model = GPTJForCausalLM.from_pretrained(model, dtype=stored)
        self.vocab_size = self.model.config.vocab_size
        self.model.train(train)
        if train:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)

    @torch.no_grad()
    def prefill(self, ids):
        self.model(torch.tensor(ids), use_cache=False)

    def decode(self, ids, count):
        tokens = torch.tensor(ids)
        found = self.model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
        )
        return found[:, ids.shape[1] :].numpy()

    def train_step(self, ids):
        rows = torch.tensor(ids)
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            loss = self.model(rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)


if __name__ == "__main__":
    serve(TransformersTorch())
