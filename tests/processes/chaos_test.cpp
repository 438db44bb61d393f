// SPDX-License-Identifier: Apache-2.0
// Ranks as processes, killed, frozen, restarted, cut off and cancelled at random: every session of
// a survivor ends by its deadline and is released once the fault is over, and what succeeded is
// right.
#include "tests/processes/end_to_end.hpp"
#include "transport/ucx/ucx_resources.hpp"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <utility>

namespace kvferry::testing {

namespace {

using clock = std::chrono::steady_clock;

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
    const char* text = std::getenv(variable);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

enum class fault { none, cancel, kill_rank, kill_instance, freeze, cut };

const char* name_of(fault x) {
    constexpr const char* names[]{"no fault", "cancel", "kill of a rank", "kill of an instance",
                                  "freeze",   "cut"};
    return names[static_cast<std::size_t>(x)];
}

constexpr auto deadline = 800ms;
/// Of requests that nothing happens to: enough for a busy machine, and less than a link waits that
/// the faults before have left half open (dial_deadline and link_patience, 5 s each).
constexpr auto calm_deadline = 4000ms;
/// Both deadlines of a session, and the time that a busy machine needs to report them.
constexpr auto end_limit = 2 * calm_deadline + 10s;

class chaos {
public:
    explicit chaos(std::uint64_t seed, const std::string& route)
        : context_({"context", 2, 1, small_model, 64, flags_of(route)}),
          generation_({"generation", 1, 2, small_model, 64, flags_of(route)}), random_(seed),
          cuts_(route != "direct, ucx" || known_trouble(ucx_version()).empty()) {}

    void round(std::uint64_t rid) {
        if (std::exchange(fresh_, false))
            meet(1'000'000 + rid);
        const auto blocks = 1 + static_cast<unsigned>(draw(60));
        const request x{rid, some_slots(blocks), some_slots(blocks), blocks * 16, draw(2) == 1};
        const auto drawn = static_cast<fault>(draw(6));
        const auto what = drawn == fault::cut && !cuts_ ? fault::cancel : drawn;
        auto& hit_instance = draw(2) == 0 ? context_ : generation_;
        const std::size_t hit = what == fault::kill_rank ? 1 : draw(2);
        INFO("rid " << rid << ", fault " << static_cast<int>(what) << " hits "
                    << std::string{&hit_instance == &context_ ? "context" : "generation"}
                    << " rank " << hit);
        const json bounded{
            {"deadline_ms", (what == fault::none ? calm_deadline : deadline).count()}};
        const auto before_second = draw(3) == 0;
        const auto strike = [&] {
            ++struck_[what];
            switch (what) {
            case fault::none:
                break;
            case fault::cancel:
                hit_instance[hit].ask({{"do", "cancel"}, {"rid", rid}});
                break;
            case fault::kill_rank:
                hit_instance[hit].kill();
                break;
            case fault::kill_instance:
                for (auto& rank : hit_instance)
                    rank->kill();
                break;
            case fault::freeze:
                hit_instance[hit].freeze();
                break;
            case fault::cut:
                hit_instance[hit].break_connections();
                break;
            }
        };
        const auto early =
            before_second && (what == fault::kill_rank || what == fault::kill_instance);
        const auto send_first = draw(2) == 0;
        auto& first = send_first ? context_ : generation_;
        auto& second = send_first ? generation_ : context_;
        const auto command = [&](instance_processes& instance) {
            &instance == &context_ ? send(context_, x, bounded)
                                   : receive(generation_, context_.endpoint, x, bounded);
        };
        if (early && &hit_instance == &first) {
            // Nobody can command a dead rank, so the other side is not commanded either.
            strike();
            command(second);
            expect_ends(second, x);
        } else {
            command(first);
            if (early) {
                strike();
            } else {
                command(second);
                strike();
            }
            const auto struck = clock::now();
            const auto is_hit = [&](instance_processes& instance, std::size_t rank) {
                const auto dead =
                    what == fault::kill_instance || (what == fault::kill_rank && rank == hit);
                const auto still = what == fault::freeze && rank == hit;
                return &instance == &hit_instance && (dead || still);
            };
            for (auto* instance : {&context_, &generation_}) {
                if (early && instance == &second)
                    continue;
                for (std::size_t rank = 0; rank < instance->size(); ++rank)
                    if (!is_hit(*instance, rank))
                        note((*instance)[rank].outcome(rid, end_limit));
            }
            if (!early)
                all_told_[what].push_back(clock::now() - struck);
            if (what == fault::freeze) {
                hit_instance[hit].thaw();
                note(hit_instance[hit].outcome(rid, end_limit));
            }
            for (auto* instance : {&context_, &generation_}) {
                if (early && instance == &second)
                    continue;
                for (std::size_t rank = 0; rank < instance->size(); ++rank)
                    if (!is_hit(*instance, rank) || what == fault::freeze)
                        (*instance)[rank].released(rid, end_limit);
            }
            check_bytes(x);
            INFO(last_);
            if (what == fault::none)
                CHECK(succeeded_.size() == generation_.size());
        }
        succeeded_.clear();
        last_.clear();
        fresh_ = what == fault::kill_rank || what == fault::kill_instance;
        if (what == fault::kill_rank)
            restart_instance_of(hit_instance, hit);
        if (what == fault::kill_instance)
            restart_instance_of(hit_instance, 0);
    }

    /// After all faults, a request succeeds as usual.
    void heal(std::uint64_t rid) {
        const request x{rid, {0, 1, 2}, {3, 4, 5}, 3 * 16, true};
        receive(generation_, context_.endpoint, x);
        send(context_, x);
        for (auto& rank : generation_)
            expect_success(*rank, x, "");
        for (auto& rank : generation_)
            expect_content(*rank, x);
        expect_clean_stop(generation_);
        expect_clean_stop(context_);
    }

    std::size_t successes() const { return successes_; }

    /// Kills, freezes and cuts.
    std::size_t faults() const {
        std::size_t result = 0;
        for (const auto& [what, count] : struck_)
            result += what == fault::none || what == fault::cancel ? 0 : count;
        return result;
    }

    /// "kill 12 to 31 ms": from the fault until the last survivor's session had ended. Printed but
    /// not checked, because it depends on the machine, too.
    std::string times() const {
        std::string result;
        for (const auto& [what, times] : all_told_) {
            const auto [least, most] = std::minmax_element(times.begin(), times.end());
            const auto ms = [](clock::duration x) {
                return std::to_string(
                    std::chrono::duration_cast<std::chrono::milliseconds>(x).count());
            };
            result += (result.empty() ? "" : ", ") + std::string{name_of(what)} + " " + ms(*least)
                      + " to " + ms(*most) + " ms";
        }
        return result;
    }

private:
    /// Brings all links up. A peer that is killed in the middle of UCX's own handshake takes the
    /// process that answers it along: UCX 1.13 fails an assertion (`transport/MEASURED.md`).
    void meet(std::uint64_t rid) {
        const request x{rid, {0}, {1}, 16, false};
        receive(generation_, context_.endpoint, x);
        send(context_, x);
        for (auto& rank : generation_)
            expect_success(*rank, x, "");
        for (auto& rank : context_)
            expect_success(*rank, x, "");
    }

    std::uint64_t draw(std::uint64_t below) { return random_() % below; }

    std::vector<int> some_slots(unsigned count) {
        auto all = slots_from(0, 64);
        std::shuffle(all.begin(), all.end(), random_);
        all.resize(count);
        return all;
    }

    void note(const json& outcome) {
        last_ += outcome.dump() + "\n";
        if (outcome.at("error").is_null() && outcome.at("side") == "generation")
            succeeded_.push_back(outcome);
    }

    void expect_ends(instance_processes& instance, const request& x) {
        for (auto& rank : instance) {
            rank->outcome(x.rid, end_limit);
            rank->released(x.rid, end_limit);
        }
    }

    /// Only a rank that reports success must have the bytes.
    void check_bytes(const request& x) {
        if (succeeded_.size() != generation_.size())
            return;
        ++successes_;
        for (auto& rank : generation_)
            expect_content(*rank, x);
    }

    /// Rank 0 holds the rank-info server: when it restarts, the whole instance restarts.
    static void restart_instance_of(instance_processes& instance, std::size_t rank) {
        if (rank != 0)
            return instance.restart(rank);
        for (std::size_t each = 0; each < instance.size(); ++each)
            instance.restart(each);
    }

    instance_processes context_;
    instance_processes generation_;
    std::mt19937_64 random_;
    /// UCX 1.13 ends a process whose connection breaks while another one is being set up
    /// (transport/MEASURED.md); cancels take the place of cuts there.
    bool cuts_;
    /// New ranks have started and have no links yet.
    bool fresh_ = true;
    std::vector<json> succeeded_;
    /// What the ranks reported in this round.
    std::string last_;
    std::size_t successes_ = 0;
    std::map<fault, std::size_t> struck_;
    std::map<fault, std::vector<clock::duration>> all_told_;
};

} // namespace

TEST_CASE("chaos: killed, frozen, restarted, cut off, cancelled ranks: every survivor's session "
          "ends once "
          "and is released") {
    const auto seed = number_from("KVFERRY_SEED", std::random_device{}());
    const auto rounds_min = number_from("KVFERRY_CHAOS_ROUNDS", 12);
    const auto faults_min = number_from("KVFERRY_CHAOS_FAULTS", 0); // of each route
    for (const std::string route :
         {"mapped", "direct", "direct, tcp", "direct, ucx", "staged", "staged, sent"}) {
        INFO("KVFERRY_SEED=" << seed << " KVFERRY_CHAOS_ROUNDS=" << rounds_min
                             << " KVFERRY_CHAOS_FAULTS=" << faults_min << " " << route);
        chaos test{seed, route};
        std::uint64_t rounds = 0;
        while (rounds < rounds_min || test.faults() < faults_min)
            test.round(++rounds);
        test.heal(rounds + 1);
        std::cout << "chaos " << route << ": " << test.faults() << " kills, freezes and cuts; "
                  << test.successes() << " of " << rounds
                  << " requests went through; all survivors told within: " << test.times()
                  << std::endl;
    }
}

} // namespace kvferry::testing
