// SPDX-License-Identifier: Apache-2.0
// kvferry's settings of UCX, each with its reason. Settings in the user's environment win.
#include "transport/ucx/ucx_config.hpp"

#include "messages/trace/log.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/ucx/network_devices.hpp"
#include "transport/ucx/ucx_error.hpp"
#include "transport/ucx/ucx_signals.hpp"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <sys/statvfs.h>

namespace kvferry {

namespace {

/// When this library is loaded: UCX was loaded just before.
[[maybe_unused]] const bool signals_are_the_hosts = (give_signals_back(), true);

void set(ucp_config_t* config, const char* variable, const char* key, const char* value) {
    if (std::getenv(variable) != nullptr)
        return;
    if (auto status = ucp_config_modify(config, key, value); status != UCS_OK)
        logger().warn("ucx_io: {} = {}: {}", variable, value, ucs_status_string(status));
}

/// The key of a setting of UCX's TCP: its name with the transport's from 1.17 on, before without
/// it. UCX takes any key, and tells only in its log that none of its parts knows it.
const char* tcp_key(const char* name) {
    unsigned major = 0, minor = 0, release = 0;
    ucp_get_version(&major, &minor, &release);
    return major > 1 || minor >= 17 ? name : name + std::string_view{"TCP_"}.size();
}

/// What UCX takes of /dev/shm for each worker.
constexpr std::uint64_t shared_memory_of_a_worker = std::uint64_t{4300} << 10;

} // namespace

std::string shared_memory_shortage() {
    const char* named = std::getenv("UCX_TLS");
    struct statvfs shm {};
    if (named == nullptr || ::statvfs("/dev/shm", &shm) != 0)
        return {};
    const auto left = std::uint64_t{shm.f_bavail} * shm.f_frsize;
    if (left >= shared_memory_of_a_worker)
        return {};
    return " (/dev/shm has " + std::to_string(left >> 10)
           + " KiB left, and the shared memory of UCX " + "that UCX_TLS=" + named
           + " may ask for takes " + std::to_string(shared_memory_of_a_worker >> 10)
           + ": kvferry does not use it, so leave UCX_TLS unset, or make /dev/shm larger: "
             "--shm-size "
             "of a container)";
}

caf::expected<ucx_config_handle> make_ucx_config(const std::string& net_devices, bool rma,
                                                 bool tcp) {
    if (const char* named = std::getenv("UCX_NET_DEVICES"))
        if (auto problem = check_named_devices(named, network_devices()))
            return problem;
    ucp_config_t* config = nullptr;
    const auto status = made_to_fail("ucp_config_read")
                            ? UCS_ERR_NO_MEMORY
                            : ucp_config_read(nullptr, nullptr, &config);
    if (status != UCS_OK)
        return ucx_error("ucp_config_read", status);
    ucx_config_handle result{config};
    // Shared memory of UCX is never used, because it does not report deaths, but each worker would
    // take its part of /dev/shm for it.
    set(config, "UCX_TLS", "TLS", tcp ? "^sm" : "^sm,tcp");
    if (!net_devices.empty())
        set(config, "UCX_NET_DEVICES", "NET_DEVICES", net_devices.c_str());
    const auto has_tcp = tcp || std::getenv("UCX_TLS") != nullptr;
    // UCX's TCP connects on the thread that sends first, which is the loop's: a machine that
    // answers no SYN would stop everything of this rank for two minutes.
    if (has_tcp)
        set(config, "UCX_TCP_CONN_NB", tcp_key("TCP_CONN_NB"), "y");
    // Works around a crash in UCX 1.13: when a peer dies in the middle of a message that is sent
    // over TCP without a copy, in several parts, UCX ends the same request twice and aborts the
    // process (measured: transport/MEASURED.md). Here UCX copies each part, in parts of the length
    // that it would not copy; no cost could be measured.
    if (!rma) {
        set(config, "UCX_ZCOPY_THRESH", "ZCOPY_THRESH", "inf");
        if (has_tcp)
            set(config, "UCX_TCP_TX_SEG_SIZE", tcp_key("TCP_TX_SEG_SIZE"), "64k");
    }
    return result;
}

} // namespace kvferry
