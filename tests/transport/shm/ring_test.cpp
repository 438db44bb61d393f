// SPDX-License-Identifier: Apache-2.0
// A ring carries records in order across its end, wakes who sleeps, and what cannot be is named.
#include "tests/support/caf_setup.hpp"
#include "transport/shm/byte_ring.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <random>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

using namespace kvferry;

namespace {

struct two_ends {
    ring_writer writer;
    ring_reader reader;

    static two_ends make() {
        auto mine = ring_memory::make();
        REQUIRE(mine);
        auto theirs = ring_memory::map(mine->fd());
        REQUIRE(theirs);
        return {ring_writer{std::move(*mine)}, ring_reader{std::move(*theirs)}};
    }
};

byte_buffer bytes_of_size(std::size_t count, int seed) {
    byte_buffer result(count);
    for (std::size_t index = 0; index < count; ++index)
        result[index] = static_cast<caf::byte>(index * 7 + seed);
    return result;
}

byte_buffer copy_of(byte_view bytes) {
    return {bytes.begin(), bytes.end()};
}

} // namespace

TEST_CASE("ring: records of all sizes arrive in order, over the end of the ring many times") {
    auto ends = two_ends::make();
    std::mt19937 random{7};
    std::deque<std::pair<byte_buffer, byte_buffer>> sent;
    std::uint64_t bytes = 0;
    for (int number = 0; bytes < 20 * ring_bytes; ++number) {
        const auto head = bytes_of_size(8 * (random() % 7), number);
        const auto payload = bytes_of_size(
            random() % 5 == 0 ? record_bytes_max - random() % 9 : random() % 500, number + 1);
        while (ends.writer.room() < record_size(head.size(), payload.size())) {
            auto record = ends.reader.peek();
            REQUIRE(record);
            REQUIRE(*record);
            REQUIRE_FALSE(sent.empty());
            const auto& [their_head, their_payload] = sent.front();
            REQUIRE((*record)->numbers.head_bytes == their_head.size());
            REQUIRE(std::equal(their_head.begin(), their_head.end(), (*record)->head.begin()));
            REQUIRE(copy_of((*record)->bytes) == their_payload);
            sent.pop_front();
            ends.reader.take(**record);
            REQUIRE_FALSE(ends.writer.look());
        }
        ends.writer.write(fabric_message::written, head, payload, false);
        bytes += payload.size();
        sent.emplace_back(head, payload);
    }
    CHECK(ends.writer.written() > 10 * ring_bytes);
}

TEST_CASE("ring: who sleeps is woken once, and does not sleep while there is something") {
    auto ends = two_ends::make();
    const auto payload = bytes_of_size(100, 1);
    CHECK_FALSE(ends.writer.write(fabric_message::frame, {}, payload, false)); // it is awake
    CHECK_FALSE(ends.reader.sleep());
    ends.reader.take(**ends.reader.peek());
    CHECK(ends.reader.sleep());
    CHECK(ends.writer.write(fabric_message::frame, {}, payload, false));
    CHECK_FALSE(ends.writer.write(fabric_message::frame, {}, payload, false));
    CHECK_FALSE(ends.reader.sleep());
    ends.reader.awake();
    CHECK_FALSE(ends.writer.write(fabric_message::frame, {}, payload, false));
    CHECK_FALSE(ends.reader.wakes_writer());
    REQUIRE_FALSE(ends.writer.look());
    CHECK(ends.writer.sleep());
    ends.reader.take(**ends.reader.peek());
    CHECK(ends.reader.wakes_writer());
    CHECK_FALSE(ends.reader.wakes_writer());
    CHECK_FALSE(ends.writer.sleep()); // it has not looked since
    REQUIRE_FALSE(ends.writer.look());
    CHECK(ends.writer.sleep());
}

TEST_CASE("ring: a number that cannot be is named by both ends") {
    const auto payload = bytes_of_size(100, 1);
    const auto is_named = [](const caf::error& problem) {
        return code_of(problem) == errc::malformed_message;
    };
    for (const std::uint64_t head : {~std::uint64_t{0}, ring_bytes + 1, std::uint64_t{7}}) {
        CAPTURE(head);
        auto ends = two_ends::make();
        ends.writer.memory().control().head.store(head);
        const auto found = ends.reader.peek();
        REQUIRE_FALSE(found);
        CHECK(is_named(found.error()));
    }
    for (const std::uint64_t tail : {~std::uint64_t{0}, std::uint64_t{1000}}) {
        CAPTURE(tail);
        auto ends = two_ends::make();
        ends.writer.write(fabric_message::frame, {}, payload, false);
        ends.writer.memory().control().tail.store(tail);
        CHECK(is_named(ends.writer.look()));
    }
    auto ends = two_ends::make();
    ends.writer.write(fabric_message::frame, {}, payload, false);
    ends.reader.take(**ends.reader.peek());
    REQUIRE_FALSE(ends.writer.look());
    ends.writer.memory().control().tail.store(0); // backwards
    CHECK(is_named(ends.writer.look()));
    ends.writer.memory().control().head.store(8);
    const auto found = ends.reader.peek();
    REQUIRE_FALSE(found);
    CHECK(is_named(found.error()));
}

TEST_CASE("ring: a record that no writer of ours made is named, whatever is wrong with it") {
    const ring_record_head good{.bytes = 16, .what = 1, .head_bytes = 8};
    auto bytes = bytes_of_size(record_size(8, 16), 3);
    const auto verdict = [&bytes](const ring_record_head& numbers, std::size_t written) {
        std::memcpy(bytes.data(), &numbers, sizeof numbers);
        auto record = read_record(byte_view{bytes}.subspan(0, written));
        return record ? errc::none : code_of(record.error());
    };
    CHECK(verdict(good, bytes.size()) == errc::none);
    CHECK(verdict(good, bytes.size() - 1) == errc::malformed_message);
    CHECK(verdict(good, 7) == errc::malformed_message);
    auto wrong = good;
    wrong.bytes = ~0u;
    CHECK(verdict(wrong, bytes.size()) == errc::malformed_message);
    wrong = good;
    wrong.what = fabric_message_count;
    CHECK(verdict(wrong, bytes.size()) == errc::malformed_message);
    wrong = good;
    wrong.head_bytes = 255;
    CHECK(verdict(wrong, bytes.size()) == errc::malformed_message);
    wrong = good;
    wrong.more = 2;
    CHECK(verdict(wrong, bytes.size()) == errc::malformed_message);
    wrong = good;
    wrong.unused = 1;
    CHECK(verdict(wrong, bytes.size()) == errc::malformed_message);
}

TEST_CASE(
    "ring: a message goes on in later records of its own only, and is no longer than allowed") {
    const auto part = bytes_of_size(100, 1);
    const auto record = [&part](std::uint8_t what, std::uint8_t head_bytes, std::uint8_t more) {
        return ring_record{{100, what, head_bytes, more}, {}, part};
    };
    {
        message_assembly assembly{250};
        CHECK_FALSE(*assembly.add(record(0, 0, 1)));
        const auto whole = assembly.add(record(0, 0, 0));
        REQUIRE(whole);
        REQUIRE(*whole);
        CHECK((*whole)->payload.size() == 200);
        CHECK((**assembly.add(record(1, 48, 0))).payload.data() == part.data()); // not copied
        CHECK((**assembly.add(record(2, 40, 0))).payload.data() != part.data()); // is looked at
    }
    for (const auto& second : {record(1, 0, 0), record(0, 8, 0)}) {
        message_assembly assembly{250};
        CHECK_FALSE(*assembly.add(record(0, 0, 1)));
        CHECK_FALSE(assembly.add(second));
    }
    message_assembly assembly{250};
    CHECK_FALSE(*assembly.add(record(0, 0, 1)));
    CHECK_FALSE(*assembly.add(record(0, 0, 1)));
    const auto too_long = assembly.add(record(0, 0, 1));
    REQUIRE_FALSE(too_long);
    CHECK(code_of(too_long.error()) == errc::malformed_message);
}

TEST_CASE("ring: memory whose size somebody could change is not mapped; that of a ring cannot") {
    const auto refused = [](int fd) {
        auto mapped = ring_memory::map(fd);
        return !mapped && code_of(mapped.error()) == errc::registration_failed;
    };
    const auto right_size = static_cast<off_t>(::getpagesize() + ring_bytes);
    unique_fd loose{::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    REQUIRE(::ftruncate(loose.get(), right_size) == 0);
    CHECK(refused(loose.get()));
    REQUIRE(::fcntl(loose.get(), F_ADD_SEALS, F_SEAL_SHRINK) == 0);
    CHECK(refused(loose.get()));
    REQUIRE(::fcntl(loose.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SEAL) == 0);
    CHECK_FALSE(refused(loose.get()));
    unique_fd small{::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    REQUIRE(::ftruncate(small.get(), right_size - ::getpagesize()) == 0);
    REQUIRE(::fcntl(small.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    CHECK(refused(small.get()));
    unique_fd pipe_end{::open("/dev/null", O_RDWR | O_CLOEXEC)};
    CHECK(refused(pipe_end.get()));
    auto ring = ring_memory::make();
    REQUIRE(ring);
    CHECK(::ftruncate(ring->fd(), 0) != 0);
    CHECK(::ftruncate(ring->fd(), 2 * right_size) != 0);
}
