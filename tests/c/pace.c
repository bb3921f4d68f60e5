/* The schedule of a paced sender against a clock that only this program moves. */
#include <assert.h>
#include <stdio.h>

#include "mcf_pace.h"

static int64_t now;
static uint32_t gone; /* in the last call */

static mcf_pace paced(uint64_t units, uint64_t span, uint32_t burst, int counts)
{
    now = INT64_C(5000000000);
    return (mcf_pace){.units = units, .span = span, .burst = burst, .counts = counts, .mtu = 1500};
}

/* Sends up to `count` datagrams as early as they may go, in a call that takes so long; when it began. */
static int64_t send(mcf_pace *pace, uint32_t count, size_t length, int64_t takes)
{
    int64_t turn = mcf_pace_turn(pace);
    if (turn > now)
        now = turn;
    int64_t began = now;
    uint32_t most = mcf_pace_most(pace, now);
    assert(most >= 1 && most <= pace->burst);
    gone = count < most ? count : most;
    now += takes;
    mcf_pace_spend(pace, gone, gone * mcf_pace_cost(pace, length), began, now);
    return began;
}

static void first_goes_at_once_and_each_further_one_a_gap_later(void)
{
    mcf_pace pace = paced(1000, 1000000000, 1, MCF_PACE_DATAGRAMS);
    int64_t start = now;
    for (int i = 0; i < 100; i++)
        assert(send(&pace, 1, 100, 3000) == start + i * 1000000);
}

/* 3 in 100 nanoseconds: the turn is never early, and after a million datagrams not a nanosecond late. */
static void fractions_add_up(void)
{
    mcf_pace pace = paced(3, 100, 1, MCF_PACE_DATAGRAMS);
    int64_t start = now;
    for (int64_t i = 0; i < 1000000; i++)
        assert(send(&pace, 1, 100, 1) == start + i * 100 / 3);
    pace = paced((UINT64_C(1) << 35) - 1, (UINT64_C(1) << 45) - 1, 1, MCF_PACE_DATAGRAMS);
    start = now;
    for (int64_t i = 0; i < 100000; i++)
        assert(send(&pace, 1, 100, 1) - start == i * 1024);
}

static void bursts_are_as_far_apart_as_their_datagrams_would_be(void)
{
    mcf_pace pace = paced(1, 1000, 64, MCF_PACE_DATAGRAMS);
    int64_t start = now;
    for (int i = 0; i < 100; i++)
        assert(send(&pace, 1000, 100, 5000) == start + i * 64000);
}

static void single_datagrams_are_even_whatever_the_burst(void)
{
    mcf_pace pace = paced(1, 1000, 64, MCF_PACE_DATAGRAMS);
    int64_t start = now;
    for (int i = 0; i < 200; i++)
        assert(send(&pace, 1, 100, 10) == start + i * 1000);
}

static void bits_are_those_of_each_datagram(void)
{
    mcf_pace pace = paced(1, 8, 1, MCF_PACE_PAYLOAD); /* 1 Gbit/s */
    int64_t start = now;
    assert(send(&pace, 1, 1000, 1) == start);
    assert(send(&pace, 1, 100, 1) == start + 8000);
    assert(send(&pace, 1, 0, 1) == start + 8800);
    assert(send(&pace, 1, 1, 1) == start + 8808);
}

/* After a pause the schedule is caught up with at 1.1 times the rate, not faster, and then kept: also where each call
 * comes a little late. */
static void what_fell_behind_comes_at_a_tenth_more(int64_t late)
{
    enum { FORGIVEN = 250 };
    for (uint32_t burst = 1; burst <= 64; burst *= 8) {
        mcf_pace pace = paced(1, 1000, burst, MCF_PACE_DATAGRAMS);
        int64_t start = now, gap = 1000 * (int64_t)burst, previous = send(&pace, burst, 100, 10);
        now += 500000 * (int64_t)burst; /* 500 bursts */
        int64_t first = previous = send(&pace, burst, 100, 10);
        int64_t caught_up = 0;
        for (int64_t i = 2; i < 7000; i++) {
            int64_t turn = mcf_pace_turn(&pace);
            now = (turn > now ? turn : now) + late;
            int64_t began = send(&pace, burst, 100, 10);
            assert((began - previous + FORGIVEN) * 11 >= gap * 10);
            assert((began - first + FORGIVEN) * 11 >= (i - 1) * gap * 10);
            assert(began - previous <= gap + late);
            assert(began >= start + i * gap);
            if (!caught_up && began == start + i * gap + late)
                caught_up = i;
            previous = began;
        }
        assert(caught_up > 5400 && caught_up < 5600);
        assert(previous == start + 6999 * gap + late);
    }
}

/* A late sender may send the rest of a burst later, as long as the whole is paid for before the next. */
static void a_burst_may_go_in_parts(void)
{
    mcf_pace pace = paced(1, 1000, 8, MCF_PACE_DATAGRAMS);
    for (int i = 0; i < 3; i++)
        send(&pace, 8, 100, 10);
    now += 1000000;
    int64_t began = send(&pace, 3, 100, 10);
    assert(send(&pace, 8, 100, 10) == began + 10 && gone == 5);
    assert(send(&pace, 8, 100, 10) >= began + 8 * 1000 * 10 / 11 - 250 && gone == 8);
}

static void only_a_second_is_made_up_for(void)
{
    mcf_pace pace = paced(1, 1000000, 1, MCF_PACE_DATAGRAMS);
    send(&pace, 1, 100, 10);
    now += INT64_C(3600000000000);
    int64_t woke = now;
    uint32_t total = 0;
    for (; now < woke + INT64_C(20000000000); total++)
        send(&pace, 1, 100, 10);
    assert(total >= 21000 && total <= 21002);
}

/* In no window of time more than a burst and what the catch-up rate gives for its length and a quarter of a
 * datagram's time, whatever holds up whom. */
static void no_window_has_more_than_a_burst_and_a_tenth(void)
{
    enum { CALLS = 2000 };
    static int64_t times[CALLS];
    static uint32_t counts[CALLS];
    uint32_t random = 1;
    for (uint32_t burst = 1; burst <= 64; burst *= 4) {
        mcf_pace pace = paced(1, 1000, burst, MCF_PACE_DATAGRAMS);
        for (int i = 0; i < CALLS; i++) {
            random = random * 1664525 + 1013904223;
            if (random >> 28 == 0)
                now += (random >> 8) % 2000000;
            else if (random >> 28 < 8)
                now += (random >> 8) % 3000;
            times[i] = send(&pace, 1 + (random >> 4) % 100, 100, 50);
            counts[i] = gone;
        }
        for (int first = 0; first < CALLS; first++) {
            int64_t inside = 0;
            for (int last = first; last < CALLS && last < first + 300; last++) {
                inside += counts[last];
                assert((inside - burst) * 1000 * 10 <= (times[last] - times[first] + 250) * 11);
            }
        }
    }
}

/* A call that lasts far longer than calls do was held up: its datagram may have left at its end. */
static void a_call_that_was_held_up_counts_from_its_end(void)
{
    mcf_pace pace = paced(1, 100000, 1, MCF_PACE_DATAGRAMS);
    int64_t began = 0;
    for (int i = 0; i < 300; i++)
        began = send(&pace, 1, 100, 3000);
    assert(send(&pace, 1, 100, 20000) == began + 100000); /* slow, but not enough to be near its follower */
    assert(send(&pace, 1, 100, 5000000) == began + 200000);
    int64_t ended = now;
    began = send(&pace, 1, 100, 3000);
    assert(began >= ended + 100000 * 10 / 11 - 25000 - 5000 && began <= ended + 100000 * 10 / 11);
    assert(send(&pace, 1, 100, 3000) >= began + 100000 * 10 / 11);
}

/* However late one call of many comes, and however long it is held up: the next does not follow its datagram after less
 * than half a gap. */
static void nothing_follows_closer_than_half_a_gap(void)
{
    for (int64_t held_up = 0; held_up < 30000; held_up += 100) {
        for (int64_t late = 0; late < 20000; late += 500) {
            mcf_pace pace = paced(1, 10000, 1, MCF_PACE_DATAGRAMS);
            for (int i = 0; i < 300; i++)
                send(&pace, 1, 100, 1000);
            now += 1000000; /* to be caught up with */
            send(&pace, 1, 100, 1000);
            now = mcf_pace_turn(&pace) + late;
            int64_t left = send(&pace, 1, 100, 1000 + held_up) + held_up;
            assert(send(&pace, 1, 100, 1000) - left >= 10000 / 2);
        }
    }
}

/* Nor where most calls take longer than an undisturbed one, as on a machine with other work. */
static void busy_calls_do_not_hide_one_that_was_held_up(void)
{
    mcf_pace pace = paced(1, 10000, 1, MCF_PACE_DATAGRAMS);
    uint32_t random = 1;
    for (int i = 0; i < 300; i++) {
        random = random * 1664525 + 1013904223;
        send(&pace, 1, 100, random >> 24 < 64 ? 4000 : 4000 + (random >> 8) % 12000);
    }
    for (int64_t held_up = 0; held_up < 30000; held_up += 100) {
        mcf_pace then = pace;
        now += 1000000; /* to be caught up with */
        send(&then, 1, 100, 4000);
        int64_t left = send(&then, 1, 100, 4000 + held_up) + held_up;
        assert(send(&then, 1, 100, 4000) - left >= 10000 / 2);
    }
}

/* Where calls take nearly all of the time between two turns, they do not hold up the rate. */
static void long_calls_do_not_lower_the_rate(void)
{
    mcf_pace pace = paced(1, 5000, 1, MCF_PACE_DATAGRAMS);
    int64_t start = now;
    for (int i = 0; i < 10000; i++)
        send(&pace, 1, 100, 4800);
    assert(now - start < INT64_C(10000) * 5000 + 5000);
}

static uint64_t on_the_wire(int is_ipv6, uint32_t mtu, size_t length)
{
    mcf_pace pace = {.units = 1, .span = 1, .burst = 1, .counts = MCF_PACE_WIRE, .is_ipv6 = is_ipv6, .mtu = mtu};
    return mcf_pace_cost(&pace, length);
}

static void octets_on_the_wire(void)
{
    assert(on_the_wire(0, 1500, 0) == 84);
    assert(on_the_wire(0, 1500, 18) == 84);
    assert(on_the_wire(0, 1500, 19) == 85);
    assert(on_the_wire(1, 1500, 0) == 86);
    assert(on_the_wire(0, 1500, 1472) == 1538);
    assert(on_the_wire(1, 1500, 1452) == 1538);
    assert(on_the_wire(0, 9000, 8972) == 9038);
    assert(on_the_wire(0, 1500, 1473) == 1538 + 84);   /* 1480 + 1 */
    assert(on_the_wire(0, 1500, 2952) == 1538 + 1538); /* 1480 + 1480 */
    assert(on_the_wire(0, 1500, 2953) == 2 * 1538 + 84);
    assert(on_the_wire(1, 1500, 1453) == 1496 + 38 + 99); /* 1448 + 13, each after 48 */
    assert(on_the_wire(0, 1499, 1472) == 1534 - 4 + 84);  /* 1472 + 8 */
    assert(on_the_wire(0, 65536, 65507) == 65535 + 38);
    assert(on_the_wire(0, 68, 65507) < UINT64_C(1) << 18);
}

int main(void)
{
    first_goes_at_once_and_each_further_one_a_gap_later();
    fractions_add_up();
    bursts_are_as_far_apart_as_their_datagrams_would_be();
    single_datagrams_are_even_whatever_the_burst();
    bits_are_those_of_each_datagram();
    what_fell_behind_comes_at_a_tenth_more(0);
    what_fell_behind_comes_at_a_tenth_more(150);
    a_burst_may_go_in_parts();
    only_a_second_is_made_up_for();
    no_window_has_more_than_a_burst_and_a_tenth();
    a_call_that_was_held_up_counts_from_its_end();
    nothing_follows_closer_than_half_a_gap();
    busy_calls_do_not_hide_one_that_was_held_up();
    long_calls_do_not_lower_the_rate();
    octets_on_the_wire();
    puts("ok");
    return 0;
}
