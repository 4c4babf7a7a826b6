"""The segments of a compiled loop: when its cache grows, and when sequences leave it."""

import pytest

from gptj.generation.finished_sequences import (
    FIRST_CAPACITY,
    MIN_STEPS_LEFT,
    SHRINK_FACTOR,
    Segment,
    Segments,
    most_room,
)

pytestmark = pytest.mark.neutral


@pytest.mark.parametrize("room", [64, FIRST_CAPACITY, 2 * FIRST_CAPACITY - 1])
def test_little_room_is_there_from_the_start(room):
    segment = Segments(prompt=7, new=room - 7, room=room).first(sequences=1)
    assert segment == Segment(capacity=room, sequences=1, until=room - 7, min_unfinished=0)


def rooms(segments):
    """Return the capacities of all segments, if no sequence ends."""
    segment = segments.first(sequences=1)
    seen = [segment.capacity]
    while segment.until < segments.new:
        segment = segments.following(segment, segment.until, unfinished=1)
        seen.append(segment.capacity)
    return seen


def test_much_room_doubles_until_it_is_enough():
    assert rooms(Segments(prompt=100, new=1900, room=2048)) == [
        FIRST_CAPACITY,
        2 * FIRST_CAPACITY,
        4 * FIRST_CAPACITY,
    ]


@pytest.mark.parametrize("room", [64, 1023, 1024, 1536, 2047, 2048])
def test_a_cache_and_the_one_before_it_are_there_together(room):
    assert sum(rooms(Segments(prompt=7, new=room - 7, room=room))[-2:]) == most_room(room)


def test_a_segment_ends_when_its_cache_is_full():
    segment = Segments(prompt=100, new=1900, room=2048).first(sequences=1)
    # the prompt and all but the last of the new tokens are in the cache
    assert 100 + segment.until - 1 == segment.capacity


def test_a_long_prompt_starts_with_room_for_more_than_itself():
    assert (
        Segments(prompt=500, new=1500, room=2048).first(sequences=1).capacity == 2 * FIRST_CAPACITY
    )
    assert Segments(prompt=1900, new=100, room=2048).first(sequences=1).capacity == 2048


def test_sequences_leave_when_a_quarter_is_left():
    segments = Segments(prompt=10, new=400, room=448)
    segment = segments.first(sequences=16)
    assert segment.min_unfinished == 4
    assert segments.following(segment, 50, unfinished=4).sequences == 4
    assert segments.following(segment, 50, unfinished=1).sequences == 1
    assert segments.following(segment, 50, unfinished=2) == Segment(448, 4, 400, 1)


def test_sequences_stay_where_few_steps_or_few_sequences_are_left():
    segments = Segments(prompt=10, new=400, room=448)
    segment = segments.first(sequences=16)
    late = segments.following(segment, 400 - MIN_STEPS_LEFT + 1, unfinished=1)
    assert (late.sequences, late.min_unfinished) == (16, 0)
    assert segments.first(sequences=SHRINK_FACTOR - 1).min_unfinished == 0


def test_with_a_stride_every_segment_is_as_short_and_the_cache_grows_when_it_is_full():
    segments = Segments(prompt=500, new=1000, room=1536, stride=1)
    segment, rooms = segments.first(sequences=1), []
    for step in range(1, segments.new + 1):
        assert segment.until == step
        rooms.append(segment.capacity)
        segment = segments.following(segment, step, unfinished=1)
    # as many steps in each as there are without a stride
    segment = Segments(prompt=500, new=1000, room=1536).first(sequences=1)
    assert rooms == [segment.capacity] * segment.until + [1536] * (segments.new - segment.until)


def test_a_graph_has_one_segment():
    single = Segments(prompt=100, new=1900, room=2000).single(sequences=16)
    assert single == Segment(capacity=2000, sequences=16, until=1900, min_unfinished=0)
