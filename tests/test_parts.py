"""The parts of a compiled loop: when its cache grows, and when rows leave it."""

import pytest

from gptj.generation.parts import FIRST, SHRINK, WORTH, Part, Parts, most_room


@pytest.mark.parametrize("room", [64, FIRST, 2 * FIRST - 1])
def test_little_room_is_there_from_the_start(room):
    part = Parts(prompt=7, new=room - 7, room=room).first(rows=1)
    assert part == Part(capacity=room, rows=1, until=room - 7, fewest=0)


def rooms(parts):
    """Return the capacities of all parts, if no row ends."""
    part = parts.first(rows=1)
    seen = [part.capacity]
    while part.until < parts.new:
        part = parts.following(part, part.until, unfinished=1)
        seen.append(part.capacity)
    return seen


def test_much_room_doubles_until_it_is_enough():
    assert rooms(Parts(prompt=100, new=1900, room=2048)) == [FIRST, 2 * FIRST, 4 * FIRST]


@pytest.mark.parametrize("room", [64, 1023, 1024, 1536, 2047, 2048])
def test_a_cache_and_the_one_before_it_are_there_together(room):
    assert sum(rooms(Parts(prompt=7, new=room - 7, room=room))[-2:]) == most_room(room)


def test_a_part_ends_when_its_cache_is_full():
    part = Parts(prompt=100, new=1900, room=2048).first(rows=1)
    # the prompt and all but the last of the new tokens are in the cache
    assert 100 + part.until - 1 == part.capacity


def test_a_long_prompt_starts_with_room_for_more_than_itself():
    assert Parts(prompt=500, new=1500, room=2048).first(rows=1).capacity == 2 * FIRST
    assert Parts(prompt=1900, new=100, room=2048).first(rows=1).capacity == 2048


def test_rows_leave_when_a_quarter_is_left():
    parts = Parts(prompt=10, new=400, room=448)
    part = parts.first(rows=16)
    assert part.fewest == 4
    assert parts.following(part, 50, unfinished=4).rows == 4
    assert parts.following(part, 50, unfinished=1).rows == 1
    assert parts.following(part, 50, unfinished=2) == Part(448, 4, 400, 1)


def test_rows_stay_where_few_steps_or_few_rows_are_left():
    parts = Parts(prompt=10, new=400, room=448)
    part = parts.first(rows=16)
    late = parts.following(part, 400 - WORTH + 1, unfinished=1)
    assert (late.rows, late.fewest) == (16, 0)
    assert parts.first(rows=SHRINK - 1).fewest == 0


def test_with_a_stride_every_part_is_as_short_and_the_cache_grows_when_it_is_full():
    parts = Parts(prompt=500, new=1000, room=1536, stride=1)
    part, rooms = parts.first(rows=1), []
    for step in range(1, parts.new + 1):
        assert part.until == step
        rooms.append(part.capacity)
        part = parts.following(part, step, unfinished=1)
    # as many steps in each as there are without a stride
    part = Parts(prompt=500, new=1000, room=1536).first(rows=1)
    assert rooms == [part.capacity] * part.until + [1536] * (parts.new - part.until)


def test_a_graph_has_one_part():
    whole = Parts(prompt=100, new=1900, room=2000).whole(rows=16)
    assert whole == Part(capacity=2000, rows=16, until=1900, fewest=0)
