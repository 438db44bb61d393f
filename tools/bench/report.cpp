// SPDX-License-Identifier: Apache-2.0
// Keys, units and columns.
#include "tools/bench/report.hpp"

#include <iomanip>
#include <sstream>

namespace kvferry::bench {

nlohmann::json json_of(const bench_result& x) {
    return {
        {"regions", x.options.regions},
        {"region_bytes", x.options.region_bytes},
        {"per_block", x.options.per_block},
        {"context_tp", x.options.context_tp},
        {"generation_tp", x.options.generation_tp},
        {"tokens_per_block", x.options.tokens_per_block},
        {"memory", x.options.memory},
        {"page_bytes", x.page_bytes},
        {"digests", x.options.digests},
        {"multiprocessors", x.options.multiprocessors},
        {"route", x.route},
        {"in_flight", x.options.in_flight},
        {"repeat", x.options.repeat},
        {"transfers", x.shape.transfers_per_round},
        {"spin_us", x.options.spin_us},
        {"callback_thread", x.options.callback_thread},
        {"copy_threads", x.options.copy_threads},
        {"tcp_threads", x.options.tcp_threads},
        {"bulk_sockets", x.options.bulk_sockets},
        {"footprint_bytes", x.shape.pool_bytes(side::generation)},
        {"gb_per_s", x.gb_per_s},
        {"limit_gb_per_s", x.limit_gb_per_s},
        {"ratio", x.ratio},
        {"p50_us", x.p50_us},
        {"p99_us", x.p99_us},
        {"posting_ns_per_region", x.posting_ns_per_region},
        {"hops", x.hops},
        {"cpu_s_per_gb", x.cpu_s_per_gb},
        {"cpu_us_per_transfer", x.cpu_us_per_transfer},
        {"private_bytes", x.private_bytes},
        {"private_bytes_grown", x.private_bytes_grown},
        {"raw_am_round_trip_us", x.raw_am_round_trip_us},
        {"raw_put_gb_per_s", x.raw_put_gb_per_s},
        {"ratio_to_raw_put", x.ratio_to_raw_put},
        {"raw_socket_gb_per_s", x.raw_socket_gb_per_s},
        {"ratio_to_raw_socket", x.ratio_to_raw_socket},
        {"raw_socket_p50_us", x.raw_socket_p50_us},
        {"raw_socket_cpu_s_per_gb", x.raw_socket_cpu_s_per_gb},
        {"verified", x.verified()},
        {"regions_wrong", x.regions_wrong},
    };
}

std::string text_of(const bench_result& x) {
    std::ostringstream out;
    const auto line = [&out](const char* name, const auto& value, const char* what) {
        out << std::left << std::setw(14) << name << std::right << std::setw(12)
            << std::setprecision(4) << value << "  " << what << "\n";
    };
    out << x.options.regions << " x " << x.options.region_bytes << " B, " << x.options.memory
        << " memory, " << x.options.in_flight << " in flight, " << x.options.repeat << " rounds of "
        << x.shape.transfers_per_round << " transfers, pools of "
        << (x.shape.pool_bytes(side::generation) >> 20) << " MiB, spin " << x.options.spin_us
        << " us\nroute: " << x.route << "\n\n";
    line("rate", x.gb_per_s, "GB/s, from the first call to the last callback");
    line("limit", x.limit_gb_per_s, "GB/s, as many threads' copy of the same pieces");
    line("ratio", x.ratio, "of the limit");
    line("p50", x.p50_us, "us for one transfer");
    line("p99", x.p99_us, "us");
    line("posting", x.posting_ns_per_region, "ns per region: plan, check, hand-over");
    line("hops", x.hops, "from thread to thread, per transfer");
    line("CPU", x.cpu_s_per_gb, "s per GB, both processes");
    line("CPU", x.cpu_us_per_transfer, "us per transfer");
    line("memory", static_cast<double>(x.private_bytes) / (1 << 20),
         "MiB private to both processes at the end");
    line("grown", static_cast<double>(x.private_bytes_grown) / (1 << 20),
         "MiB of it since the first round");
    line("raw UCX", x.raw_am_round_trip_us, "us for one active message and its answer");
    if (x.raw_put_gb_per_s > 0) {
        line("raw UCX", x.raw_put_gb_per_s, "GB/s, puts of the same pieces");
        line("ratio", x.ratio_to_raw_put, "of raw puts");
    }
    if (x.raw_socket_gb_per_s > 0) {
        line("plain socket", x.raw_socket_gb_per_s, "GB/s, the same pieces");
        line("ratio", x.ratio_to_raw_socket, "of the plain socket");
        line("plain socket", x.raw_socket_p50_us, "us for one transfer, p50");
        line("plain socket", x.raw_socket_cpu_s_per_gb, "s per GB, both processes");
    }
    line("verified", x.verified() ? "yes" : "NO", "every byte of every round");
    return out.str();
}

} // namespace kvferry::bench
