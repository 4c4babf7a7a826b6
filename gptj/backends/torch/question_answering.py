"""The question-answering head: where in the text an answer starts and ends."""

from typing import Any

from torch import Tensor

from gptj.backends.torch import params
from gptj.backends.torch.cache import KVCache
from gptj.backends.torch.layers import Linear, at_least_float32
from gptj.backends.torch.losses import question_answering_loss
from gptj.backends.torch.model import GPTJModel
from gptj.backends.torch.pretrained import TorchPretrained
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.targets import check_answers, check_item_count


class GPTJForQuestionAnswering(TorchPretrained):
    """GPT-J with a head that marks where in the text an answer starts and ends."""

    head = "question_answering"

    def __init__(
        self, config: GPTJConfig, *, seed: int = 0, attn_implementation: str = "sdpa"
    ) -> None:
        super().__init__(config)
        self.transformer = GPTJModel(config, seed=seed, attn_implementation=attn_implementation)
        self.qa_outputs = Linear(config.n_embd, config.num_labels)
        params.initialize(self, seed)

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: Tensor | None = None,
        num_items_in_batch: int | Tensor | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["question_answering"]``, without a cache."""
        inputs = self._as_tensors(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            cache_position=cache_position,
        )
        targets = self._as_tensors(start_positions=start_positions, end_positions=end_positions)
        given = {"input_ids": inputs["input_ids"], "embeds": inputs["inputs_embeds"]}
        self.check_labels(**targets, items=num_items_in_batch, **given)
        items = self._as_tensors(items=num_items_in_batch)["items"]
        output = self.transformer(
            **inputs,
            past_key_values=past_key_values,
            use_cache=False,  # in any case: the output has no field for it
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        logits = at_least_float32(self.qa_outputs(output.pop("last_hidden_state")))  # (B, T, 2)
        start, end = logits.unbind(dim=-1)
        loss = None
        places = [one.to(start.device) for one in targets.values() if one is not None]
        if places:
            loss = question_answering_loss(start, end, places[0], places[1], items)
        result = ModelOutput(
            [("loss", loss), ("start_logits", start), ("end_logits", end), *output.items()]
        )
        return self.transformer.deliver(result, return_dict)

    def check_labels(
        self,
        start_positions: Tensor | None,
        end_positions: Tensor | None,
        items: int | Tensor | None,
        input_ids: Tensor | None,
        embeds: Tensor | None,
    ) -> None:
        """Refuse positions, and a number of them, that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_answers(start_positions, end_positions, given.shape[0])
            places = start_positions, end_positions
            check_item_count(items, params.concrete, *places, outside=given.shape[1])
