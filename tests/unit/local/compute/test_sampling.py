from shoal.local.compute.sampling import SAMPLE_EVERY, Sampler


def test_each_seconds_first_and_every_twentieth_of_the_others_are_traced():
    now = [10.0]
    sampler = Sampler(lambda: now[0])
    taken = [sampler.takes_next() for _ in range(1 + 2 * SAMPLE_EVERY)]
    assert taken[0]
    assert [index for index, took in enumerate(taken) if took] == [0, SAMPLE_EVERY, 2 * SAMPLE_EVERY]
    now[0] = 11.2
    assert [sampler.takes_next(), sampler.takes_next()] == [True, False]
