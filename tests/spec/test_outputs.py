"""ModelOutput: one result, four ways to read it."""

import copy
import pickle
import sys
from collections import OrderedDict
from types import SimpleNamespace

import pytest

from gptj.spec.heads import HEADS
from gptj.spec.outputs import ModelOutput, flatten, unflatten

pytestmark = pytest.mark.neutral

FIELDS = {
    "base": "last_hidden_state past_key_values hidden_states attentions",
    "causal_lm": "loss logits past_key_values hidden_states attentions",
    "sequence_classification": "loss logits past_key_values hidden_states attentions",
    "question_answering": "loss start_logits end_logits hidden_states attentions",
}


@pytest.fixture
def output():
    return ModelOutput(loss=None, logits="l", past_key_values=None, hidden_states=("a", "b"))


def test_a_field_can_be_read_as_attribute_key_or_index(output):
    assert output.logits == output["logits"] == output[0] == "l"


def test_what_was_not_computed_takes_no_place(output):
    assert list(output) == ["logits", "hidden_states"]
    assert (len(output), output[1], output[-1]) == (2, ("a", "b"), ("a", "b"))


@pytest.mark.parametrize("name", ["loss", "attentions", "start_logits"])
def test_what_was_not_computed_is_none_as_an_attribute(output, name):
    assert getattr(output, name) is None


def test_what_was_not_computed_is_no_key(output):
    assert "loss" not in output
    with pytest.raises(KeyError, match="loss"):
        output["loss"]


def test_a_slice_is_a_tuple(output):
    assert output[:1] == ("l",)
    assert output[:] == output.to_tuple() == ("l", ("a", "b"))


def test_an_index_past_the_end_is_an_error(output):
    with pytest.raises(IndexError):
        output[2]


@pytest.mark.parametrize(("head", "fields"), FIELDS.items())
def test_fields_stand_in_the_order_that_users_unpack(head, fields):
    assert HEADS[head].outputs == tuple(fields.split())


def test_every_head_has_its_fields():
    assert FIELDS.keys() == HEADS.keys()


def test_the_tuple_keeps_the_order_of_what_was_computed():
    output = ModelOutput([("loss", 1), ("logits", None)], attentions=3, hidden_states=2)
    assert output.to_tuple() == (1, 3, 2)


def test_an_unknown_attribute_names_the_fields_there_are(output):
    with pytest.raises(AttributeError, match="no field 'logit'; it has logits, hidden_states"):
        _ = output.logit


def test_an_unknown_attribute_is_not_there(output):
    assert not hasattr(output, "__array__")


@pytest.mark.parametrize(
    "clone",
    [
        copy.copy,
        copy.deepcopy,
        ModelOutput.copy,
        ModelOutput,
        lambda output: pickle.loads(pickle.dumps(output)),
        lambda output: unflatten(*reversed(flatten(output))),
    ],
    ids=["copy", "deepcopy", "method", "constructor", "pickle", "tree"],
)
def test_a_copy_is_equal_and_of_the_same_class(output, clone):
    assert clone(output) == output
    assert type(clone(output)) is ModelOutput


def test_a_copy_does_not_share_its_fields(output):
    copy.copy(output)["logits"] = "changed"
    assert output.logits == "l"


def test_setting_an_attribute_sets_the_key(output):
    output.logits, output.loss = "new", 0.5
    assert (output["logits"], output["loss"]) == ("new", 0.5)


def test_setting_a_key_sets_the_attribute(output):
    output["logits"] = "new"
    assert output.logits == "new"


def test_setting_none_takes_a_field_away(output):
    output.logits = None
    assert output.to_tuple() == (("a", "b"),)


def test_a_field_can_be_taken_out(output):
    assert output.pop("logits") == "l"
    assert output.logits is None


def test_names_and_values_unpack_like_a_mapping(output):
    assert dict(**output) == {"logits": "l", "hidden_states": ("a", "b")}


def test_a_tree_function_may_put_none_in_a_field(output):
    replaced = unflatten(("logits", "hidden_states"), (None, 1))
    assert list(replaced) == ["logits", "hidden_states"]


def test_an_output_is_one_of_transformers_where_that_is_loaded(monkeypatch):
    class Theirs(OrderedDict):
        pass

    output, name = ModelOutput(loss=1.0, logits=2.0), "transformers.utils.generic"
    monkeypatch.delitem(sys.modules, name, raising=False)
    assert output.known() is output
    assert output.__class__ is ModelOutput
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(ModelOutput=Theirs))
    assert not isinstance(ModelOutput(loss=1.0), Theirs)
    assert isinstance(output, Theirs) and isinstance(output, ModelOutput)
    for other in (copy.copy(output), copy.deepcopy(output), pickle.loads(pickle.dumps(output))):
        assert type(other) is ModelOutput and other == output
