// SPDX-License-Identifier: Apache-2.0
// A cable between two network namespaces that delays, loses, reorders, throttles and swallows what
// it carries, as it is told. Kernels differ in what they can do of that; this works wherever there
// are TAP devices.
#pragma once

#include "transport/loop/unique_fd.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <queue>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace kvferry::testing {

/// What happens to packets of one direction.
struct cable_quality {
    bool silent = false;
    std::chrono::microseconds delay{0};
    unsigned lost_per_mille = 0;
    /// These come a millisecond later than their neighbours.
    unsigned late_per_mille = 0;
    /// 0: as fast as it can.
    std::uint64_t bytes_per_second = 0;
    /// Only connections to this port are let through; 0: all.
    std::uint16_t only_to_port = 0;
    /// Who listens elsewhere says nothing: of its connections only what carries no bytes is let
    /// through; 0: all.
    std::uint16_t words_only_of_port = 0;
};

class bad_cable {
public:
    /// Makes a device `eth` in each of the two namespaces, without addresses. Null: there are no
    /// TAP devices here.
    static std::unique_ptr<bad_cable> make(const std::string& a, const std::string& b);
    bad_cable(const bad_cable&) = delete;
    ~bad_cable();

    enum direction : std::size_t { a_to_b = 0, b_to_a = 1 };
    void set(direction, cable_quality);
    void set_both(cable_quality x) {
        set(a_to_b, x);
        set(b_to_a, x);
    }
    void heal() { set_both({}); }

private:
    using clock = std::chrono::steady_clock;
    using packet = std::vector<std::byte>;
    struct waiting {
        clock::time_point due;
        std::uint64_t number = 0;
        packet bytes;

        friend bool operator<(const waiting& x, const waiting& y) { // the earliest on top
            return std::pair{x.due, x.number} > std::pair{y.due, y.number};
        }
    };
    struct lane {
        unique_fd from;
        cable_quality quality;
        std::priority_queue<waiting> under_way;
        /// When the last byte has left, at that rate.
        clock::time_point busy_until;
    };

    explicit bad_cable(std::array<unique_fd, 2> ends);
    void run();
    void take(lane&);
    void deliver(lane&, int to);

    std::mutex mutex_;
    std::array<lane, 2> lanes_;
    unique_fd wake_;
    bool over_ = false;
    std::mt19937_64 random_{1};
    std::uint64_t last_ = 0;
    std::thread thread_;
};

} // namespace kvferry::testing
