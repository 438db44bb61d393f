// SPDX-License-Identifier: Apache-2.0
// The writer's half of puts: turns, windows, credit, and one end for each put.
#include "transport/fabric/outbound_puts.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

using namespace kvferry;

namespace {

constexpr endpoint_id over{1};
constexpr incarnation peer{7};
constexpr time_point now{};
constexpr wire_room wide{.piece_bytes_max = 100};

/// A put of `slots` slots of `bytes` each, into region 0.
copy_job job_of(std::uint32_t slots, std::uint64_t bytes, std::uint32_t region = 0) {
    auto layout = std::make_shared<copy_template>();
    layout->runs.push_back({.bytes = bytes});
    layout->bytes = bytes;
    layout->fragments = 1;
    auto plan = std::make_shared<copy_plan>();
    plan_part part{0, 0, layout, {}};
    for (std::uint32_t slot = 0; slot < slots; ++slot)
        part.slots.push_back({slot, slots - 1 - slot});
    plan->parts.push_back(part);
    plan->bytes = slots * bytes;
    return {plan, {{0, bytes, 0}}, {{1 << 20, bytes, region}}, {}};
}

struct scene {
    outbound_puts puts;
    std::vector<transfer_done> ended;
    std::vector<post_end> ends;
    std::vector<ask_for_credit> questions;
    std::vector<post_references> references;
    std::vector<post_piece> pieces;
    std::vector<post_bundle> bundles;
    /// Then a bundle's piece is among `pieces`.
    bool bundles_are_pieces = false;

    explicit scene(std::size_t pieces_max = 1000) : puts(pieces_max) { puts.open(over, peer); }

    void start(std::uint64_t id, copy_job job, bool needs_credit = false, const flow& of = {}) {
        put_credit credit{job, [needs_credit](std::uint32_t) { return needs_credit; }};
        puts.start({.id = {id},
                    .over = over,
                    .job = std::move(job),
                    .credit = std::move(credit),
                    .of = of});
        look();
    }
    bool post(const wire_room& room = wide, std::optional<priority> only = {}) {
        const bool any = puts.post(over, room, now, only);
        look();
        return any;
    }
    /// The wire has sent the oldest piece.
    void piece_over(std::size_t count = 1) {
        for (; count > 0; --count) {
            puts.piece_over(over, pieces.front().put);
            pieces.erase(pieces.begin());
        }
        look();
    }
    void written(std::uint64_t put, written_as how = written_as::visible, incarnation from = peer) {
        puts.written({from.value, put, how}, how == written_as::visible ? "" : "because");
        look();
    }
    bool credit(std::uint64_t put, std::uint64_t bytes, bool by_reference = false) {
        const bool known = puts.credit({peer.value, put, bytes, by_reference}, "none left");
        look();
        return known;
    }
    void cancel(std::uint64_t id) {
        puts.cancel({id}, make_error(errc::cancelled, "by the test"));
        look();
    }
    void fail_link() {
        puts.fail(over, make_error(errc::link_lost, "by the test"));
        look();
    }
    void look() {
        for (auto& effect : puts.take_effects()) {
            if (auto* piece = std::get_if<post_piece>(&effect))
                pieces.push_back(*piece);
            else if (auto* bundle = std::get_if<post_bundle>(&effect); bundle && bundles_are_pieces)
                pieces.push_back({over, bundle->put, bundle->stretches.front(), {}, false});
            else if (bundle)
                bundles.push_back(*bundle);
            else if (auto* end = std::get_if<post_end>(&effect))
                ends.push_back(*end);
            else if (auto* question = std::get_if<ask_for_credit>(&effect))
                questions.push_back(*question);
            else if (auto* reference = std::get_if<post_references>(&effect))
                references.push_back(*reference);
            else
                ended.push_back(std::get<put_over>(effect).done);
        }
    }
};

} // namespace

TEST_CASE("outbound_puts: a put posts its pieces, then its end, and is over when the target has "
          "dealt with all of them and their memory is free") {
    for (bool told_first : {true, false}) {
        CAPTURE(told_first);
        scene x;
        x.start(5, job_of(3, 150));
        CHECK(x.puts.is_posting(over));
        CHECK(x.puts.knows({5}));
        CHECK(x.post());
        CHECK(x.pieces.size() == 6); // cut at 100 bytes
        REQUIRE(x.ends.size() == 1);
        CHECK(x.ends[0].pieces == 6);
        CHECK_FALSE(x.puts.is_posting(over));
        if (told_first)
            x.written(1);
        x.piece_over(6);
        CHECK(x.ended.size() == (told_first ? 1 : 0));
        if (!told_first)
            x.written(1);
        REQUIRE(x.ended.size() == 1);
        CHECK(x.ended[0].id == transfer_id{5});
        CHECK(x.ended[0].result == agent_result::success);
        CHECK(x.ended[0].bytes == 450);
        CHECK_FALSE(x.puts.knows({5}));
        CHECK_FALSE(x.puts.has_puts(over));
        x.written(1); // a second time: no effect
        CHECK(x.ended.size() == 1);
    }
}

TEST_CASE("outbound_puts: the report goes with the end of a put that has posted everything, and of "
          "no other") {
    const auto job = job_of(2, 100);
    const auto start = [&job](scene& x) {
        put_credit free{job, [](std::uint32_t) { return false; }};
        x.puts.start({.id = {1},
                      .over = over,
                      .job = job,
                      .credit = std::move(free),
                      .report = byte_buffer(3, caf::byte{7})});
    };
    scene whole;
    start(whole);
    whole.post();
    REQUIRE(whole.ends.size() == 1);
    CHECK(whole.ends[0].report == byte_buffer(3, caf::byte{7}));
    scene given_up{1};
    start(given_up);
    given_up.post();
    given_up.cancel(1);
    REQUIRE(given_up.ends.size() == 1);
    CHECK(given_up.ends[0].report.empty());
}

TEST_CASE("outbound_puts: puts of one link take turns by bytes") {
    scene x;
    x.start(1, job_of(1, 400));
    x.start(2, job_of(1, 400));
    x.post({.piece_bytes_max = 100, .turn_bytes_max = 200});
    std::vector<std::uint64_t> order;
    for (const auto& piece : x.pieces)
        order.push_back(piece.put);
    CHECK(order == std::vector<std::uint64_t>{1, 1, 2, 2, 1, 1, 2, 2});
}

TEST_CASE("outbound_puts: an urgent put ends another one's turn, and the classes share the link by "
          "their weights") {
    scene x;
    x.start(1, job_of(1, 100000), false, {.urgency = priority::normal});
    x.start(2, job_of(1, 100000), false, {.urgency = priority::low});
    const wire_room one{.bytes = 1, .piece_bytes_max = 100, .turn_bytes_max = 1000};
    x.post(one); // a piece of the first turn
    x.start(3, job_of(1, 100000), false, {.urgency = priority::high});
    std::map<std::uint64_t, int> pieces;
    x.pieces.clear();
    for (int turn = 0; turn < 420; ++turn) {
        x.post(one);
        if (turn == 0)
            CHECK(x.pieces.back().put == 3);
        ++pieces[x.pieces.back().put];
    }
    CHECK(x.pieces.front().urgency == priority::high);
    CHECK(pieces[3] == doctest::Approx(320).epsilon(0.05));
    CHECK(pieces[1] == doctest::Approx(80).epsilon(0.15));
    CHECK(pieces[2] == doctest::Approx(20).epsilon(0.5));
    CHECK(pieces[2] > 0);
}

TEST_CASE("outbound_puts: a class with a way of its own is posted by itself, and its end goes the "
          "same way") {
    scene x;
    x.start(1, job_of(1, 300), false, {.urgency = priority::normal});
    x.start(2, job_of(1, 300), false, {.urgency = priority::high});
    CHECK(x.puts.has_turns(over, priority::high));
    CHECK_FALSE(x.puts.has_turns(over, priority::low));
    CHECK_FALSE(x.post(wide, priority::low));
    CHECK(x.post(wide, priority::high));
    REQUIRE(x.ends.size() == 1);
    CHECK(x.ends[0].put == 2);
    CHECK(x.ends[0].urgency == priority::high);
    for (const auto& piece : x.pieces)
        CHECK(piece.put == 2);
    CHECK(x.puts.is_posting(over));
    CHECK(x.post(wide, priority::normal));
    CHECK(x.ends.size() == 2);
    CHECK_FALSE(x.puts.is_posting(over));
}

TEST_CASE("outbound_puts: where the wire takes bundles, stretches travel together, as many as fit; "
          "one alone travels by itself, and each message is one piece") {
    const wire_room bundled{
        .piece_bytes_max = 100, .bundle_bytes_max = 100, .bundle_stretches_max = 3};
    scene x;
    x.start(1, job_of(10, 40)); // 40 40 20, 20 40 40, 40 40 20, 20 40 40
    x.post(bundled);
    REQUIRE(x.bundles.size() == 4);
    std::uint64_t bytes = 0;
    for (const auto& bundle : x.bundles) {
        CHECK(bundle.stretches.size() == 3);
        for (const auto& stretch : bundle.stretches)
            bytes += stretch.bytes;
    }
    CHECK(bytes == 400);
    REQUIRE(x.ends.size() == 1);
    CHECK(x.ends[0].pieces == 4);
    x.start(2, job_of(10, 10)); // three by three, and one
    x.post(bundled);
    CHECK(x.bundles.size() == 7);
    CHECK(x.pieces.size() == 1);
    CHECK(x.ends.at(1).pieces == 4);
    for (int i = 0; i < 4; ++i)
        x.puts.piece_over(over, 1);
    x.written(1);
    REQUIRE(x.ended.size() == 1);
    CHECK(x.ended[0].bytes == 400);
}

TEST_CASE("outbound_puts: a bundle ends where credit does, and puts by RMA know none") {
    const wire_room bundled{
        .piece_bytes_max = 100, .bundle_bytes_max = 100, .bundle_stretches_max = 50};
    scene x;
    x.start(1, job_of(10, 10), true);
    x.post(bundled);
    CHECK(x.bundles.empty());
    x.credit(1, 35);
    x.post(bundled);
    REQUIRE(x.bundles.size() == 1);
    CHECK(x.bundles[0].stretches.size() == 4);
    CHECK(x.bundles[0].stretches.back().bytes == 5);
    x.credit(1, 65);
    x.post(bundled);
    REQUIRE(x.bundles.size() == 2);
    CHECK(x.bundles[1].stretches.front().bytes == 5);
    CHECK(x.ends.at(0).pieces == 2);
    const auto job = job_of(3, 10);
    put_credit free{job, [](std::uint32_t) { return false; }};
    x.puts.start({.id = {2}, .over = over, .job = job, .credit = free, .by_rma = true});
    x.post(bundled);
    CHECK(x.pieces.size() == 3);
    CHECK(x.bundles.size() == 2);
}

TEST_CASE("outbound_puts: no more than the wire and the window take is posted") {
    scene x{3};
    x.start(1, job_of(1, 1000));
    x.post({.bytes = 0, .piece_bytes_max = 100});
    CHECK(x.pieces.empty());
    x.post({.bytes = 150, .piece_bytes_max = 100});
    CHECK(x.pieces.size() == 2);
    x.post();
    CHECK(x.pieces.size() == 3);
    CHECK_FALSE(x.post());
    x.piece_over();
    CHECK(x.post());
    CHECK(x.pieces.size() == 3);
    CHECK(x.puts.is_posting(over));
}

TEST_CASE("outbound_puts: a put into memory on a device asks once and waits for its credit out of "
          "turn") {
    scene x;
    x.start(1, job_of(2, 100), true);
    x.start(2, job_of(1, 100));
    x.post();
    REQUIRE(x.questions.size() == 1);
    CHECK(x.questions[0].wanted.bytes == 200);
    CHECK(x.pieces.size() == 1); // the other put's
    CHECK(x.pieces[0].put == 2);
    x.post();
    CHECK(x.questions.size() == 1);
    CHECK(x.credit(1, 150));
    CHECK(x.puts.is_posting(over));
    x.post();
    CHECK(x.pieces.size() == 3); // 100 and 50 bytes
    CHECK(x.credit(1, 50));
    x.post();
    REQUIRE(x.ends.size() == 2);
    CHECK(x.ends[1].pieces == 3);
}

TEST_CASE("outbound_puts: credit that is refused ends the put; credit of an ended put is given "
          "back; another rank's changes nothing") {
    scene x;
    x.start(1, job_of(1, 100), true);
    x.post();
    CHECK(x.puts.credit({incarnation{8}.value, 1, 0, 0}, "a lie"));
    x.look();
    CHECK(x.ends.empty());
    CHECK(x.credit(1, 0));
    REQUIRE(x.ends.size() == 1); // the target knows of the put
    CHECK(x.ends[0].pieces == 0);
    x.written(1);
    REQUIRE(x.ended.size() == 1);
    CHECK(x.ended[0].result == agent_result::failed);
    CHECK(text_of(x.ended[0].error).find("none left") != std::string::npos);
    CHECK_FALSE(x.credit(1, 100));
}

TEST_CASE("outbound_puts: a target that reads the bytes itself is told where they lie, and never "
          "memory that was not offered") {
    scene x;
    auto job = job_of(3, 100);
    x.start(1, job, true);
    x.post();
    CHECK(x.credit(1, 300, true)); // nothing was offered
    REQUIRE(x.ends.size() == 1);
    x.written(1);
    CHECK(code_of(x.ended.at(0).error) == errc::malformed_message);
    job.source = shared_memory{.region = 4, .base_address = 0, .bytes = 300};
    x.start(2, job, true);
    x.post();
    CHECK(x.questions.at(1).source_region == 4);
    CHECK(x.credit(2, 300, true));
    x.post();
    REQUIRE(x.references.size() == 1);
    CHECK(x.references[0].stretches.size() == 3);
    CHECK(x.references[0].stretches[1].offset == 100);
    CHECK(x.pieces.empty());
    CHECK(x.ends.at(1).pieces == 1);
}

TEST_CASE("outbound_puts: a cancelled put posts nothing more and has failed when its pieces are "
          "proven over") {
    scene x;
    x.start(1, job_of(1, 1000));
    x.start(2, job_of(1, 100));
    x.cancel(2); // the target never heard of it
    REQUIRE(x.ended.size() == 1);
    CHECK(x.ended[0].result == agent_result::failed);
    CHECK(x.ended[0].bytes == 0);
    x.post({.bytes = 200, .piece_bytes_max = 100});
    x.cancel(1);
    x.cancel(1);
    CHECK_FALSE(x.post());
    REQUIRE(x.ends.size() == 1);
    CHECK(x.ends[0].pieces == 2);
    x.piece_over(2);
    CHECK(x.ended.size() == 1);
    x.written(1);
    REQUIRE(x.ended.size() == 2);
    CHECK(x.ended[1].result == agent_result::failed);
    CHECK(code_of(x.ended[1].error) == errc::cancelled);
    CHECK(x.ended[1].bytes == 200);
}

TEST_CASE(
    "outbound_puts: when the link is lost, a put without a posted piece has failed, one that "
    "was confirmed keeps its result, every other is in doubt, none before its memory is free") {
    scene x;
    x.start(1, job_of(1, 100));
    x.start(2, job_of(1, 100));
    x.start(3, job_of(1, 100));
    x.start(4, job_of(1, 100));
    x.post({.bytes = 300, .piece_bytes_max = 100}); // and the fourth has none
    x.written(1);
    x.written(2, written_as::in_doubt);
    x.fail_link();
    REQUIRE(x.ended.size() == 1);
    CHECK(x.ended[0].id == transfer_id{4});
    CHECK(x.ended[0].result == agent_result::failed);
    CHECK(code_of(x.ended[0].error) == errc::link_lost);
    x.piece_over(3);
    REQUIRE(x.ended.size() == 4);
    CHECK(x.ended[1].result == agent_result::success);
    CHECK(x.ended[2].result == agent_result::in_doubt);
    CHECK(x.ended[3].result == agent_result::in_doubt);
    CHECK(code_of(x.ended[3].error) == errc::transfer_in_doubt);
    CHECK_FALSE(x.puts.has_puts(over));
}

TEST_CASE("outbound_puts: a confirmation of another rank, or before the last piece, ends nothing") {
    scene x;
    x.start(1, job_of(1, 200));
    x.post({.bytes = 100, .piece_bytes_max = 100});
    x.written(1, written_as::visible, incarnation{8});
    x.written(1);
    x.piece_over();
    CHECK(x.ended.empty());
    x.post();
    x.piece_over();
    CHECK(x.ended.empty());
    x.written(1, written_as::visible, incarnation{8});
    CHECK(x.ended.empty());
    x.written(1);
    CHECK(x.ended.size() == 1);
}

TEST_CASE("outbound_puts: a flush ends a put by RMA, which has longer pieces") {
    scene x;
    auto job = job_of(1, 3 << 20);
    put_credit free{job, [](std::uint32_t) { return false; }};
    x.puts.start({.id = {1}, .over = over, .job = job, .credit = free, .by_rma = true});
    x.post();
    CHECK(x.pieces.size() == 3);
    CHECK(x.ends.at(0).by_rma);
    x.piece_over(3);
    CHECK(x.ended.empty());
    x.puts.flushed(1);
    x.look();
    CHECK(x.ended.at(0).result == agent_result::success);
}

TEST_CASE("outbound_puts: in whatever order things happen, every put ends once and none while its "
          "memory is read") {
    std::mt19937 random{4711};
    for (int round = 0; round < 500; ++round) {
        CAPTURE(round);
        scene x{1 + random() % 8};
        x.bundles_are_pieces = true;
        std::map<std::uint64_t, std::uint64_t> sizes;
        std::uint64_t last = 0;
        bool failed = false;
        for (int step = 0; step < 100; ++step) {
            const auto put = 1 + random() % (last + 1);
            switch (random() % (failed ? 4 : 7)) {
            case 0:
                x.piece_over(std::min<std::size_t>(x.pieces.size(), 1));
                break;
            case 1:
                x.written(put, static_cast<written_as>(random() % 3));
                break;
            case 2:
                x.cancel(put);
                break;
            case 3:
                x.credit(put, random() % 300);
                break;
            case 4:
                sizes[++last] = 100 * (1 + random() % 5);
                x.start(last, job_of(sizes[last] / 50, 50), random() % 4 == 0);
                break;
            case 5:
                x.post({.bytes = random() % 400,
                        .piece_bytes_max = 1 + random() % 150,
                        .bundle_bytes_max = 1 + random() % 300,
                        .bundle_stretches_max = random() % 4});
                break;
            default:
                if (failed = random() % 20 == 0; failed)
                    x.fail_link();
            }
            for (const auto& done : x.ended)
                for (const auto& piece : x.pieces)
                    REQUIRE(piece.put != done.id.value); // numbers and ids count alike here
        }
        x.fail_link();
        x.piece_over(x.pieces.size());
        REQUIRE(x.ended.size() == last);
        std::sort(x.ended.begin(), x.ended.end(),
                  [](const auto& a, const auto& b) { return a.id < b.id; });
        for (std::uint64_t id = 1; id <= last; ++id) {
            const auto& done = x.ended[id - 1];
            REQUIRE(done.id == transfer_id{id});
            if (done.result == agent_result::success)
                REQUIRE(done.bytes == sizes[id]);
            else
                REQUIRE(done.error);
        }
    }
}
