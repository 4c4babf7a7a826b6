"""The keywords that type checkers know are those that the functions take."""

import inspect
from dataclasses import fields

import pytest

import gptj
from gptj import hub
from gptj.generation.keywords import GenerateOptions, GenerationOptions, TextOptions
from gptj.generation.options import option_names
from gptj.hub.options import HubOptions
from gptj.model import options
from gptj.model.load_options import WITHOUT_EFFECT
from gptj.model.loading import load_model
from gptj.model.pretrained import Pretrained
from gptj.prediction.options import PredictOptions
from gptj.scoring.options import ScoreOptions
from gptj.scoring.score_texts import score
from gptj.spec.config import INERT, argument_names
from gptj.spec.config_fields import ConfigArguments, ConfigFields
from gptj.tokenizer import script_calls
from gptj.tokenizer.options import TokenizerOptions
from gptj.training.options import TrainingOptions
from gptj.training.settings import Settings

pytestmark = pytest.mark.neutral


def keys(typed):
    """Return the names of a typed dictionary."""
    return {*typed.__annotations__}


def parameters(function, kind=inspect.Parameter.KEYWORD_ONLY):
    """Return the names of a function's parameters that are given by keyword."""
    return {p.name for p in inspect.signature(function).parameters.values() if p.kind == kind}


def test_the_fields_of_a_configuration_are_known():
    assert keys(ConfigFields) == argument_names()


def test_the_arguments_of_a_configuration_are_known():
    assert keys(ConfigArguments) == argument_names() | INERT | {"extra"}


def test_the_options_of_the_hub_are_known():
    assert keys(HubOptions) == hub.OPTIONS


def test_the_options_of_generation_are_known():
    of_the_result = {"return_dict_in_generate", "num_return_sequences"}
    assert keys(GenerationOptions) == {*option_names()} - of_the_result


def test_the_options_of_generate_are_known():
    of_the_method = parameters(Pretrained.generate) | {"num_return_sequences"}
    assert keys(GenerateOptions) == keys(GenerationOptions) | of_the_method


def test_the_options_of_generate_text_are_known():
    of_the_method = parameters(Pretrained.generate_text) | {"generation_config"}
    assert keys(TextOptions) == keys(GenerationOptions) | of_the_method


def test_the_options_of_score_are_known():
    assert keys(ScoreOptions) == parameters(score) - {"continuations"}


def test_the_options_of_an_adapter_are_known():
    found = inspect.signature(Pretrained.add_lora).parameters.keys() - {"self"}
    assert keys(options.LoraOptions) == found


def test_the_options_of_a_tokenizer_are_known():
    taken = parameters(gptj.GPTJTokenizer.from_pretrained) | {*script_calls.WITHOUT_EFFECT}
    assert keys(TokenizerOptions) == hub.OPTIONS | taken


def test_the_settings_of_a_training_are_known():
    assert keys(TrainingOptions) == {field.name for field in fields(Settings)}


def test_the_options_of_prediction_are_known():
    of_a_head = {"truncate", "question", "stride", "longest"}
    own = parameters(gptj.predict) - of_a_head
    assert keys(PredictOptions) == keys(options.AnyOptions) | own | {"backend", "head"}


def test_the_options_of_loading_are_known():
    taken = parameters(load_model) | argument_names() | WITHOUT_EFFECT | {"seed"}
    assert keys(options.LoadOptions) == taken
