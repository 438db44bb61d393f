// SPDX-License-Identifier: Apache-2.0
// Some of the context ranks as a child process. Each always has its next requests open and sent, so
// that prefill is over before decode asks.
#include "actors/host/runtime.hpp"
#include "tools/bench/helper.hpp"
#include "tools/bench/incast/incast_layout.hpp"
#include "tools/common/subcommand.hpp"

#include <CLI/CLI.hpp>

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

namespace kvferry {

namespace bench {

namespace {

constexpr std::chrono::hours no_end{24};
/// Requests that are open ahead, of each kind.
constexpr std::uint64_t open_ahead = 2;

/// One rank, which offers one request after the other.
class offering_rank {
public:
    offering_rank(std::uint32_t peer, tools::pool_rank rank, const incast_layout& layout)
        : peer_(peer), rank_(std::move(rank)), layout_(layout) {
        for (std::uint32_t slot = 0; slot < layout_.slots_of_peer(); ++slot)
            incast_layout::write(slot_of(rank_, slot), peer_, slot);
    }

    void begin() {
        for (std::uint64_t ahead = 0; ahead < open_ahead; ++ahead) {
            offer(next_bulk_++);
            offer(next_urgent_++);
        }
    }

    const std::string& endpoint() const { return rank_.transfers.info_endpoint(); }

    caf::error stop() {
        {
            const std::lock_guard lock{mutex_};
            over_ = true;
        }
        auto stopped = rank_.transfers.stop(std::chrono::seconds{10});
        return stopped ? caf::error{} : std::move(stopped.error());
    }

private:
    void offer(std::uint64_t number) {
        session_options options;
        options.request = request_of(peer_, number);
        options.deadline = options.transfer_deadline = no_end;
        options.on_released = [this, number](const session_released&) {
            const std::lock_guard lock{mutex_};
            if (!over_)
                offer((number & urgent_bit) != 0 ? next_urgent_++ : next_bulk_++);
        };
        const auto session = rank_.transfers.open_tx(std::move(options));
        session.send((number & urgent_bit) != 0 ? layout_.urgent(0)
                                                : layout_.bulk(0, layout_.bytes_of(number)));
    }

    std::uint32_t peer_;
    tools::pool_rank rank_;
    const incast_layout& layout_;
    std::mutex mutex_;
    bool over_ = false;
    std::uint64_t next_bulk_ = 0;
    std::uint64_t next_urgent_ = urgent_bit;
};

class incast_side {
public:
    /// {"options", "first", "count"} -> {"endpoints"}
    caf::expected<json> start(const json& question) {
        const auto options = question.at("options").get<incast_options>();
        layout_ = std::make_unique<incast_layout>(options);
        json endpoints = json::array();
        const auto first = question.at("first").get<std::uint32_t>();
        const auto end = first + question.at("count").get<std::uint32_t>();
        for (auto peer = first; peer < end; ++peer) {
            auto made =
                start_incast_rank(actors_, options, *layout_, "context-" + std::to_string(peer), 1);
            if (!made)
                return std::move(made.error());
            ranks_.push_back(std::make_unique<offering_rank>(peer, std::move(*made), *layout_));
            ranks_.back()->begin();
            endpoints.push_back(ranks_.back()->endpoint());
        }
        return json{{"endpoints", endpoints}};
    }

    caf::error stop() {
        caf::error result;
        for (auto& x : ranks_)
            if (auto problem = x->stop())
                result = problem;
        return result;
    }

private:
    runtime actors_;
    std::unique_ptr<incast_layout> layout_;
    std::vector<std::unique_ptr<offering_rank>> ranks_;
};

int run_incast_side(int fd) {
    line_socket parent{unique_fd{fd}};
    incast_side side;
    while (auto question = parent.read(no_end)) {
        auto said = side.start(*question);
        if (parent.write(said ? *said : json{{"error", describe(said.error())}}))
            break;
    }
    if (auto problem = side.stop())
        std::_Exit(exit_failure); // nothing may be freed: the end of the process is the proof
    return exit_success;
}

} // namespace

} // namespace bench

void add_bench_incast_side(CLI::App& app, int& status) {
    auto* command =
        app.add_subcommand("bench-incast-side", "Context ranks of bench incast")->group("");
    auto fd = std::make_shared<int>(-1);
    command->add_option("fd", *fd)->required();
    command->callback([fd, &status] { status = bench::run_incast_side(*fd); });
}

} // namespace kvferry
