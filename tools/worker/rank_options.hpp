// SPDX-License-Identifier: Apache-2.0
// How one rank is described on a command line, and what follows from it.
#pragma once

#include "actors/host/worker.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"
#include "transport/secure/security_options.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::tools {

/// The flags of `kvferry worker` as they were given.
struct rank_options {
    std::string instance = "instance";
    std::string layout;
    std::string info_endpoint;
    std::uint16_t port = 0;
    std::string bind;
    std::string advertise;
    security_options security;
    std::string model = "layers=4,heads=4,head_dim=16,element_bytes=2,tokens_per_block=16";
    std::uint32_t slots = 64;
    std::string memory = "shared";
    /// The device, for memory "cuda".
    int device = 0;
    /// Of its pool, when that is made of chunks; 0: one allocation.
    std::uint64_t device_chunk_bytes = 0;
    /// How many multiprocessors of the device its copies may use.
    std::uint32_t multiprocessors = device_options{}.multiprocessors;
    /// Threads that copy between host memory; 0: by the number of processors.
    std::uint32_t copy_threads = 0;
    std::string route = "auto";
    std::string wire = "auto";
    bool same_host_link = true;
    bool send_staged = false;
    std::string machine;
    bool relay = limits{}.relay;
    std::string fingerprint;
    std::string host_link_folder;
    std::chrono::milliseconds session_deadline = limits{}.session_deadline;
    std::chrono::milliseconds dial_deadline = limits{}.dial_deadline;
    std::chrono::milliseconds stop_deadline = limits{}.stop_deadline;
    std::chrono::milliseconds drain_deadline{25000};
    std::chrono::milliseconds link_health_interval = limits{}.link_health_interval;
    std::chrono::milliseconds link_patience = limits{}.link_patience;
    /// Newest protocol version that it speaks.
    std::uint16_t protocol = protocol_version;
    std::optional<std::uint64_t> fill_seed;
    /// "host:port" of /metrics, /livez and /readyz; empty: none.
    std::string metrics;
    /// "http://host:port" of a collector of spans; empty: KVFERRY_SPANS.
    std::string spans;
    directory_options directory;
    /// What the instance is listed for.
    std::string role = "any";
    /// The end of standard input is no stop.
    bool stay = false;
    /// Folder for a recording; empty: none.
    std::string trace;
};

/// Everything that a rank is started with.
struct rank_plan {
    worker_options worker;
    page_table pages;
    std::uint64_t pool_bytes = 0;
};

/// "tp=2,tp_rank=1,pp=1,pp_rank=0,attention_dp=0". Spreads the model's `layers` over the stages
/// evenly; the first stages take the rest.
caf::expected<parallelism> parse_layout(std::string_view, std::uint32_t layers);

/// "layers=4,heads=4,head_dim=16,element_bytes=2,tokens_per_block=16,kind=gqa,order=hnd".
caf::expected<cache_format> parse_model(std::string_view);

/// invalid_argument names the option.
caf::expected<rank_plan> plan_rank(const rank_options&);

} // namespace kvferry::tools
