import threading

import pytest

from keylift.core.read_ahead import read_ahead


def test_everything_comes_in_its_order():
    assert list(read_ahead(iter(range(50)))) == list(range(50)) and list(read_ahead(iter(()))) == []


def test_the_next_is_made_meanwhile_and_no_more():
    made = []
    second = threading.Event()

    def items():
        for number in range(9):
            made.append(number)
            if number == 2:
                second.set()
            yield number

    reading = read_ahead(items(), 2)
    assert next(reading) == 0
    assert next(reading) == 1 and second.wait(10)
    reading.close()
    assert len(made) <= 4


def test_an_error_comes_after_what_was_good():
    def items():
        yield 1
        raise KeyError("broken")

    reading = read_ahead(items())
    assert next(reading) == 1
    with pytest.raises(KeyError, match="broken"):
        next(reading)


def test_whoever_stops_reading_lets_go_of_the_source():
    let_go = []

    def items():
        try:
            while True:
                yield 1
        finally:
            let_go.append(True)

    reading = read_ahead(items())
    next(reading)
    reading.close()
    assert let_go == [True]
