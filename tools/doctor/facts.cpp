// SPDX-License-Identifier: Apache-2.0
// Tries what a worker would do, with the same code, on the smallest scale.
#include "tools/doctor/facts.hpp"

#include "actors/kvferry.hpp"
#include "cuda/device/driver.hpp"
#include "tools/common/pool_rank.hpp"
#include "transport/host_link/memfd_pool.hpp"
#include "transport/host_link/process_watch.hpp"
#include "transport/same_host/unix_socket.hpp"
#include "transport/secure/security.hpp"

#include <cstdlib>
#include <fstream>
#include <poll.h>
#include <string>
#include <sys/resource.h>
#include <unistd.h>
#include <utility>

namespace kvferry::doctor {

namespace {

caf::error wait_readable(int fd) {
    pollfd look{fd, POLLIN, 0};
    if (::poll(&look, 1, 1000) == 1)
        return {};
    return make_error(errc::deadline_exceeded,
                      "this process connected to itself and received nothing for 1 s");
}

/// What two ranks do on one machine: connect, hand over memory, watch each other's end.
caf::error try_link(const memfd_pool& pool) {
    const auto name = "kvferry-doctor-" + std::to_string(::getpid());
    auto listener = unix_socket::listen(name);
    if (!listener)
        return listener.error();
    auto dialled = unix_socket::connect(name);
    if (!dialled)
        return dialled.error();
    if (auto problem = wait_readable(listener->fd()))
        return problem;
    auto accepted = listener->accept();
    if (!accepted)
        return accepted.error();
    if (!*dialled || !*accepted)
        return make_error(errc::dial_failed, "this process could not connect to itself");
    auto watch = watch_process(**accepted);
    if (!watch)
        return watch.error();
    const caf::byte hello{};
    auto sent = (*dialled)->send({&hello, 1}, {pool.fd()});
    if (!sent)
        return sent.error();
    if (auto problem = wait_readable((*accepted)->fd()))
        return problem;
    if ((*accepted)->receive().fds.size() != 1)
        return make_error(errc::system_call_failed,
                          "descriptors cannot be passed between processes here");
    return {};
}

constexpr std::chrono::milliseconds patience{5000};

/// One rank with one pool, as `kvferry worker` makes it.
caf::expected<tools::pool_rank> start_small_rank(runtime& system, const std::string& instance) {
    cache_format model;
    model.layers = 1;
    model.kv_heads = 1;
    model.head_dim = 16;
    model.tokens_per_block = 16;
    worker_options options;
    options.instance = instance;
    options.layout.layers_per_stage = {model.layers};
    options.bounds.dial_deadline = patience;
    options.bounds.info_deadline = patience;
    options.bounds.stop_deadline = patience;
    const auto pages = build_page_table(model, options.layout, {.slot_count = 1});
    return tools::pool_rank::start(system, std::move(options), pages);
}

/// Lets two ranks hand one block over: whatever a rank needs and lacks shows here.
void try_transfer(machine_facts& facts) {
    runtime system;
    auto context = start_small_rank(system, "doctor-context");
    if (!context) {
        facts.rank_error = text_of(context.error());
        return;
    }
    auto generation = start_small_rank(system, "doctor-generation");
    if (!generation) {
        facts.rank_error = text_of(generation.error());
        return;
    }
    session_options request;
    request.request = {1};
    request.deadline = request.transfer_deadline = patience;
    const kv_slice block{{0, 16}, 16, {{0, {0}}}, true};
    const auto sending = context->transfers.open_tx(request);
    const auto receiving =
        generation->transfers.open_rx(request, {context->transfers.info_endpoint(), 0});
    receiving.receive(block);
    sending.send(block);
    const auto outcome = receiving.outcome().get();
    facts.transfer_error = text_of(outcome.error);
    for (const auto& peer : outcome.peers)
        facts.transfer_route = peer.route;
    for (auto* rank : {&*generation, &*context})
        if (auto stopped = rank->transfers.stop(patience); !stopped)
            facts.transfer_error +=
                (facts.transfer_error.empty() ? "" : "; ") + text_of(stopped.error());
}

/// "HugePages_Total:     512" and the like.
void read_huge_pages(machine_facts& facts) {
    std::ifstream file{"/proc/meminfo"};
    std::string name;
    std::uint64_t number = 0;
    for (std::string rest; file >> name >> number; std::getline(file, rest)) {
        if (name == "HugePages_Total:")
            facts.huge_pages = number;
        else if (name == "HugePages_Free:")
            facts.huge_pages_free = number;
        else if (name == "Hugepagesize:")
            facts.huge_page_bytes = number << 10;
    }
}

void look_for_gpus(machine_facts& facts) {
    const auto found = cuda_probe();
    facts.cuda_error = found.reason;
    facts.cuda_driver_version = found.driver_version;
    facts.cuda_built_in = found.built_in;
    for (const auto& device : found.devices)
        facts.gpus.push_back(
            {device.ordinal, device.name, device.memory_bytes, device.can_access_peers});
}

} // namespace

machine_facts look() {
    machine_facts facts;
    facts.devices = network_devices();
    facts.rdma_adapters = kvferry::rdma_adapters();
    if (const char* named = std::getenv("UCX_NET_DEVICES"))
        facts.net_devices = named;
    const auto chosen = devices_for("", facts.devices);
    if (auto ucx = probe_ucx(chosen ? *chosen : ""))
        facts.ucx = std::move(*ucx);
    else
        facts.ucx_error = text_of(ucx.error());

    if (auto pool =
            memfd_pool::make("kvferry-doctor", 1, {.huge_pages = false, .prefault = true})) {
        if (auto problem = try_link(*pool))
            facts.link_error = text_of(problem);
    } else {
        facts.memfd_error = text_of(pool.error());
        facts.link_error = "not tried: no pool for sharing can be made";
    }
    read_huge_pages(facts);

    if (auto secured = security::make({})) {
        facts.strangers = (*secured)->describe();
        facts.strangers_mode = to_string((*secured)->how());
    } else {
        facts.secret_error = text_of(secured.error());
    }
    try_transfer(facts);

    rlimit descriptors{};
    if (::getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
        facts.descriptors_max = descriptors.rlim_cur;
        facts.descriptors_hard_max = descriptors.rlim_max;
    }
    rlimit locked{};
    if (::getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && locked.rlim_cur != RLIM_INFINITY)
        facts.lock_bytes_max = locked.rlim_cur;

    look_for_gpus(facts);
    return facts;
}

} // namespace kvferry::doctor
