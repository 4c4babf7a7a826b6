"""Files of text become training examples, the same for every framework.

`text_dataset`, `classification_dataset` and `question_dataset` read text and JSON lines, tokenise
them once into a cache folder, and give a `Dataset`: examples of one length by number, and batches
in an order that follows from a seed. Examples are dicts of NumPy arrays, so each framework takes
them as they are; `gptj.datasets.framework_batches` has what Keras and TensorFlow want in addition.
"""

from gptj.datasets.classification import ClassificationDataset, classification_dataset
from gptj.datasets.dataset import Dataset
from gptj.datasets.framework_batches import keras_batches, output_signature, shifted_targets
from gptj.datasets.question_answering import QuestionDataset, question_dataset
from gptj.datasets.text import TextDataset, text_dataset
from gptj.errors import DataError

__all__ = [
    "ClassificationDataset",
    "DataError",
    "Dataset",
    "QuestionDataset",
    "TextDataset",
    "classification_dataset",
    "keras_batches",
    "output_signature",
    "question_dataset",
    "shifted_targets",
    "text_dataset",
]
