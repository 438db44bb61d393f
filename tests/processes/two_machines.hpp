// SPDX-License-Identifier: Apache-2.0
// Two machines with a bad cable between them: prefill and decode, a network namespace each.
#pragma once

#include "tests/processes/bad_cable.hpp"
#include "tests/processes/machines.hpp"

#include <fstream>
#include <memory>
#include <string>
#include <unistd.h>

namespace kvferry::testing {

inline const std::string prefill_address = "10.97.1.2";
inline const std::string decode_address = "10.97.1.1";

class two_machines {
public:
    two_machines() {
        if (!shell("ip netns add " + decode) || !shell("ip netns add " + prefill))
            return;
        if (why_not_ = try_visit(decode); !why_not_.empty())
            return;
        cable = bad_cable::make(decode, prefill);
        if (!cable || !has_address(decode, decode_address)
            || !has_address(prefill, prefill_address))
            why_not_ = "a cable needs TAP devices";
    }
    ~two_machines() {
        cable.reset();
        for (const auto& each : {decode, prefill})
            shell("ip netns del " + each);
    }
    two_machines(const two_machines&) = delete;
    two_machines& operator=(const two_machines&) = delete;

    /// Empty: they work.
    const std::string& why_not() const { return why_not_; }

    /// All that the cable has brought to decode, headers and acknowledgements included.
    std::uint64_t bytes_at_decode() const {
        return run_on(decode, "eth", [] {
            std::uint64_t result = 0;
            std::ifstream{"/sys/class/net/eth/statistics/rx_bytes"} >> result;
            return result;
        });
    }

    const std::string decode = "kvferry-d" + std::to_string(::getpid());
    const std::string prefill = "kvferry-p" + std::to_string(::getpid());
    std::unique_ptr<bad_cable> cable;

private:
    static bool has_address(const std::string& machine, const std::string& address) {
        return shell("ip -n " + machine + " addr add " + address + "/24 dev eth")
               && shell("ip -n " + machine + " link set eth up")
               && shell("ip -n " + machine + " link set lo up");
    }

    std::string why_not_ = "network namespaces need root and iproute2";
};

} // namespace kvferry::testing
