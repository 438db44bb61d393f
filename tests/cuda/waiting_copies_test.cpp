// SPDX-License-Identifier: Apache-2.0
// Who is next on a device that is full.
#include "cuda/waiting_copies.hpp"

#include <doctest/doctest.h>

using namespace kvferry;

namespace {

start_copy copy_of(std::uint64_t id, priority urgency, std::uint64_t peer, std::uint64_t bytes) {
    auto plan = std::make_shared<copy_plan>();
    plan->bytes = bytes;
    start_copy result;
    result.id = transfer_id{id};
    result.job.plan = std::move(plan);
    result.of = {.urgency = urgency, .peer = peer};
    return result;
}

} // namespace

TEST_CASE("waiting_copies: the urgent one goes first, and peers in turn, by bytes") {
    waiting_copies waiting;
    waiting.add(copy_of(1, priority::normal, 1, 1 << 20));
    waiting.add(copy_of(2, priority::normal, 1, 1 << 20));
    waiting.add(copy_of(3, priority::normal, 2, 1 << 18));
    waiting.add(copy_of(4, priority::normal, 2, 1 << 18));
    waiting.add(copy_of(5, priority::high, 3, 1 << 20));
    CHECK(waiting.has(priority::high));
    std::vector<std::uint64_t> order;
    while (!waiting.empty())
        order.push_back(waiting.take_next().id.value);
    CHECK(order == std::vector<std::uint64_t>{5, 1, 3, 4, 2});
}

TEST_CASE("waiting_copies: the high class can be taken by itself, one by its id, and all at once") {
    waiting_copies waiting;
    waiting.add(copy_of(1, priority::low, 1, 1));
    waiting.add(copy_of(2, priority::high, 1, 1));
    waiting.add(copy_of(3, priority::normal, 1, 1));
    waiting.add(copy_of(3, priority::normal, 1, 1)); // a duplicate is refused later, by name
    CHECK(waiting.take_next(priority::high).id == transfer_id{2});
    CHECK_FALSE(waiting.has(priority::high));
    CHECK(waiting.take(transfer_id{3}));
    CHECK(waiting.take(transfer_id{3}));
    CHECK_FALSE(waiting.take(transfer_id{3}));
    CHECK(waiting.take_all().size() == 1);
    CHECK(waiting.empty());
}
