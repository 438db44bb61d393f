// SPDX-License-Identifier: Apache-2.0
// A fleet whose ranks speak the version before this one is brought to this one, rank by rank, while
// requests go on; none of them fails.
//
// An old rank is this program with `--protocol`: it then writes that version's bytes and no others
// (frozen_versions_test), and refuses newer ones, as the release before does.
#include "messages/limits.hpp"
#include "tests/processes/end_to_end.hpp"

#include <csignal>
#include <deque>

namespace kvferry::testing {

namespace {

std::vector<std::string> speaking(unsigned version) {
    return {"--protocol", std::to_string(version)};
}

const std::vector<std::string> old_flags = speaking(oldest_protocol_version);
const std::vector<std::string> new_flags = speaking(protocol_version);

/// Requests from any of the context instances to any of the generation instances that are in
/// service; each instance is one rank.
class fleet {
public:
    fleet() {
        for (const auto* name : {"context-0", "context-1"})
            contexts_.push_back(std::make_unique<member>(name));
        for (const auto* name : {"generation-0", "generation-1"})
            generations_.push_back(std::make_unique<member>(name));
    }

    /// Starts a request between the next pair in service, and ends the oldest one of too many.
    void step() {
        auto& from = next_of(contexts_);
        auto& to = next_of(generations_);
        const auto first = static_cast<int>(rid_ % 16) * 4;
        const request x{++rid_, {first, first + 1}, {first + 2, first + 3}, 32, rid_ % 2 == 0};
        if (rid_ % 3 == 0) { // the receiver may be first
            receive(to.ranks, from.ranks.endpoint, x);
            send(from.ranks, x);
        } else {
            send(from.ranks, x);
            receive(to.ranks, from.ranks.endpoint, x);
        }
        open_.push_back({x, &from, &to});
        while (open_.size() > in_flight_max)
            end_oldest();
    }

    void finish() {
        while (!open_.empty())
            end_oldest();
    }

    /// Takes each rank out of service, drains it with its requests in flight, and replaces it.
    template <class Each>
    void upgrade(const Each& between) {
        for (auto* side : {&contexts_, &generations_})
            for (auto& each : *side) {
                each->in_service = false;
                for (const auto& x : open_) // before that a drain may cancel them
                    if (x.from == each.get() || x.to == each.get())
                        await_met(x);
                each->ranks[0].terminate();
                between();
                finish();
                CHECK(each->ranks[0].wait_for("stopped").at("unproven").empty());
                CHECK(each->ranks[0].wait_for_end() == 128 + SIGTERM);
                each->ranks.use(new_flags);
                each->ranks.restart(0);
                each->in_service = true;
                between();
            }
    }

    std::uint64_t requests() const { return rid_; }

    void stop() {
        for (auto* side : {&generations_, &contexts_})
            for (auto& each : *side)
                expect_clean_stop(each->ranks);
    }

private:
    static constexpr std::size_t in_flight_max = 6;

    struct member {
        explicit member(const char* name) : ranks({name, 1, 1, small_model, 64, old_flags}) {}

        instance_processes ranks;
        bool in_service = true;
    };
    using members = std::vector<std::unique_ptr<member>>;

    struct open_request {
        request what;
        member* from;
        member* to;
    };

    member& next_of(members& all) {
        for (;;)
            if (auto& each = *all[turn_++ % all.size()]; each.in_service)
                return each;
    }

    static void await_met(const open_request& x) {
        for (;;) {
            const auto now = x.from->ranks[0].ask({{"do", "status"}, {"rid", x.what.rid}});
            if (now.at("event") != "status" || !now.at("peers").empty())
                return; // over already, or met
        }
    }

    void end_oldest() {
        const auto x = std::move(open_.front());
        open_.pop_front();
        expect_success(x.from->ranks[0], x.what, "");
        expect_success(x.to->ranks[0], x.what, "");
        if (x.to->in_service) // else it may have ended; its digests have been compared
            expect_content(x.to->ranks[0], x.what);
    }

    members contexts_;
    members generations_;
    std::deque<open_request> open_;
    std::uint64_t rid_ = 0;
    std::size_t turn_ = 0;
};

/// One request through all ranks.
void meet(instance_processes& context, instance_processes& generation, std::uint64_t rid) {
    const request x{rid, {0, 1}, {2, 3}, 32, true};
    send(context, x);
    receive(generation, context.endpoint, x);
    for (auto& rank : generation)
        expect_success(*rank, x, "");
    for (auto& rank : generation)
        expect_content(*rank, x);
    for (auto& rank : context)
        expect_success(*rank, x, "");
}

} // namespace

TEST_CASE("upgrade: ranks replaced one by one under load, old ones drained, fail no request") {
    fleet all;
    const auto load = [&all] {
        for (int count = 0; count < 12; ++count)
            all.step();
    };
    load();
    all.upgrade(load);
    load();
    all.finish();
    CHECK(all.requests() == 10 * 12);
    all.stop();
}

TEST_CASE("upgrade: an instance whose ranks are old and new in any mixture serves any other") {
    instance_processes context{{"context", 2, 1, small_model, 64, old_flags}};
    instance_processes generation{{"generation", 1, 2, small_model, 64, old_flags}};
    std::uint64_t rid = 0;
    meet(context, generation, ++rid);
    // Rank 1 first: it introduces itself to an older server. Then rank 0, whose server hears from
    // an older rank.
    const auto replace = [&](instance_processes& instance, std::size_t rank,
                             const std::vector<std::string>& flags) {
        instance[rank].terminate();
        CHECK(instance[rank].wait_for_end() == 128 + SIGTERM);
        instance.use(flags);
        instance.restart(rank);
        meet(context, generation, ++rid);
    };
    replace(context, 1, new_flags);
    replace(generation, 0, new_flags);
    replace(context, 0, new_flags);
    replace(context, 1, old_flags); // and back again
    replace(generation, 1, new_flags);
    replace(context, 1, new_flags);
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

} // namespace kvferry::testing
