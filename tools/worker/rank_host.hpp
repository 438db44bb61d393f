// SPDX-License-Identifier: Apache-2.0
// The host of one rank without an engine: a pool, a worker, and commands from a script.
#pragma once

#include "actors/host/runtime.hpp"
#include "cuda/device/device_pool.hpp"
#include "tools/common/process_tracing.hpp"
#include "tools/worker/cache_content.hpp"
#include "tools/worker/line_writer.hpp"
#include "tools/worker/rank_options.hpp"
#include "tools/worker/worker_events.hpp"
#include "transport/host_link/memfd_pool.hpp"

#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kvferry::tools {

/// Used from one thread. Outcomes and releases are printed from CAF's threads.
class rank_host {
public:
    /// Starts the rank, publishes its pool and prints `ready`.
    static caf::expected<std::unique_ptr<rank_host>> start(runtime&, const rank_options&,
                                                           line_writer_actor out);

    /// Runs one command and prints its answer; false after `stop`.
    bool run(const std::string& line);

    /// Drains the rank on a thread of its own; commands go on meanwhile. Calls `ended` there.
    void drain(std::chrono::milliseconds deadline, std::function<void()> ended);

    /// Ends the rank, or waits for its drain, and prints `stopped`. False when pages could not be
    /// proven quiet: then nothing may be freed before the process ends.
    bool stop();

private:
    struct session {
        std::optional<tx_handle> tx;
        std::optional<rx_handle> rx;
        /// Set when the outcome has been printed.
        std::future<void> told;

        const session_handle& handle() const {
            return tx ? static_cast<const session_handle&>(*tx) : *rx;
        }
    };
    using session_key = std::pair<side, std::uint64_t>;

    /// The rank's memory, with the bytes owned in one of these ways.
    struct memory {
        std::optional<memfd_pool> shared;
        std::vector<std::byte> owned;
        /// With a device: `owned` is a copy in host memory for the host's reads and writes.
        std::unique_ptr<device_pool> device;
        /// `owned` stands in for memory on a device.
        bool is_twin = false;

        static caf::expected<memory> make(const rank_options&, const rank_plan&);
        std::byte* base() { return shared ? shared->base() : owned.data(); }
        host_region region();
    };

    rank_host(line_writer_actor out, std::chrono::milliseconds stop_deadline, memory pool,
              worker started, const page_table& pages);

    void open(const json& command);
    void send(const json& command);
    void receive(const json& command);
    void cancel(const json& command);
    void status(const json& command);
    void fill(const json& command);
    void check(const json& command);
    void digest(const json& command);
    void await(const json& command);
    void connect(const json& command);
    void republish(const json& command);
    void role(const json& command);
    void statistics(const json& command);

    void refuse_second(session_key) const;
    const session& open_context(const json& command, aux_mode aux);
    static session_key key_of(side role, const json& command);
    session& find(const json& command);
    session_options options_of(const json& command, aux_mode aux, std::future<void>& told) const;
    block_list blocks_of(const json& command) const;
    kv_slice slice_of(const json& command) const;
    void to_device(const block_list&);
    void from_device(const block_list&);
    template <class F>
    void for_each_slot(const block_list&, F&& f);
    void forget_released();
    void print(const json& event) const;

    line_writer_actor out_;
    std::chrono::milliseconds stop_deadline_;
    memory pool_;
    worker worker_;
    page_table pages_;
    cache_content content_;
    std::map<session_key, session> sessions_;
    std::unique_ptr<trace_endpoint> live_;
    /// Uses the worker, and so ends before it.
    std::future<caf::expected<worker_stopped>> drained_;
};

} // namespace kvferry::tools
