// SPDX-License-Identifier: Apache-2.0
// Drives two sides through all requests: the part that a router plays in a serving system.
#pragma once

#include "tools/demo/progress_line.hpp"
#include "tools/demo/result.hpp"
#include "tools/demo/side_process.hpp"

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

namespace kvferry::demo {

class orchestrator {
public:
    /// `options` have been checked.
    orchestrator(const demo_options& options, progress_line& progress);

    /// Never throws for a side's mistake: problems are in the result. Every wait ends after
    /// options.deadline, and both processes are gone when it returns.
    demo_result run();

private:
    void listen_to(side_process& side, side_result& about);
    void add_request_handlers();
    void start_sides();
    void start(request_result&);
    void order_prefill(const request_result&);
    void order_receive(const request_result&);
    void run_requests();
    void compare();
    void stop_sides();
    void check_against_one_process();

    request_result& find(std::uint64_t rid);
    bool complete(const request_result&) const;
    std::size_t count_complete() const;
    bool any_failed() const;

    /// Handles lines until `done`. Throws std::runtime_error when a side ends, fails, or sends
    /// nothing for the deadline; the text names what was waited for.
    void wait_until(const std::function<bool()>& done, const std::string& what);
    void poll_sides(const std::string& what);

    demo_result result_;
    progress_line& progress_;
    side_process context_;
    side_process generation_;
    std::size_t started_sides_ = 0;
    std::set<std::string> stopped_sides_;
    std::size_t compared_ = 0;
};

} // namespace kvferry::demo
