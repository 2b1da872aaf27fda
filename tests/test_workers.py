"""Work of those who died is handed out again."""

import time
from functools import partial

import pytest
from joblib import parallel_config

import rs4a.voting.workers
from rs4a import CertificationWarning
from rs4a.voting.workers import Workers


class RayActorError(Exception):
    """Stands for ray's."""


class Dying:
    """Every other task of a call dies, as long as there are deaths."""

    def __init__(self, n_deaths):
        self.n_deaths = n_deaths

    def __call__(self, voters, number):
        if number % 2 and self.n_deaths:
            self.n_deaths -= 1
            raise RayActorError
        return 10 * number


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.setattr(rs4a.voting.workers, "_RESTART_SECONDS", 0)
    with parallel_config(backend="threading"), Workers(None, n_jobs=2) as opened:
        yield opened


def tasks(numbers):
    return [partial(tuple, [number]) for number in numbers]


def test_tasks_of_the_dead_are_handed_out_again(workers):
    with pytest.warns(CertificationWarning, match="A worker died"):
        found = list(workers.results(Dying(3), tasks(range(20))))
    assert sorted(found) == [(index, 10 * index) for index in range(20)]


def test_deaths_without_end_end(workers):
    with (
        pytest.warns(CertificationWarning, match="A worker died"),
        pytest.raises(RayActorError),
    ):
        list(workers.results(Dying(1000), tasks([1, 3, 5])))


def test_deaths_are_forgiven_where_work_goes_on(workers):
    died = set()

    def die_once(voters, number):
        if number % 4 == 0 and number not in died:
            died.add(number)
            time.sleep(0.1)  # while others finish their tasks
            raise RayActorError
        return number

    with pytest.warns(CertificationWarning, match="A worker died"):
        found = list(workers.results(die_once, tasks(range(1, 25))))
    assert len(died) == 6
    assert sorted(found) == list(enumerate(range(1, 25)))


def test_other_errors_are_raised_at_once(workers):
    def fail(voters, number):
        raise ValueError(number)

    with pytest.raises(ValueError, match="7"):
        list(workers.results(fail, tasks([7])))
