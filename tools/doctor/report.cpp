// SPDX-License-Identifier: Apache-2.0
// The rules of the judgement. Routes come from the same function that chooses them for transfers.
#include "tools/doctor/report.hpp"

#include "actors/context/route.hpp"
#include "actors/shared/wire_choice.hpp"
#include "messages/limits.hpp"
#include "messages/version.hpp"
#include "tools/common/text.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string_view>

namespace kvferry::doctor {

namespace {

using demo::bytes_text;

std::string join(const std::vector<std::string>& words) {
    std::string result;
    for (const auto& word : words)
        result += (result.empty() ? "" : ", ") + word;
    return result;
}

/// "tcp on lo, eth0; rc_verbs on mlx5_0:1", for the resources that pass the filter.
template <class Filter>
std::string resources_text(const ucx_abilities& ucx, Filter passes) {
    std::vector<std::string> transports;
    std::string result;
    for (const auto& [transport, device] : ucx.resources) {
        if (!passes(transport))
            continue;
        const bool first =
            std::find(transports.begin(), transports.end(), transport) == transports.end();
        if (first) // UCX lists the devices of a transport together
            result += (result.empty() ? "" : "; ") + transport + " on " + device;
        else
            result += ", " + device;
        transports.push_back(transport);
    }
    return result;
}

bool has_rma(const machine_facts& facts) {
    return facts.ucx
           && std::any_of(facts.ucx->resources.begin(), facts.ucx->resources.end(),
                          [](const auto& x) { return has_rma_hardware(x.transport); });
}

/// Ranks do without UCX where there is no RDMA.
finding judge_ucx(const machine_facts& facts) {
    if (!facts.ucx)
        return {"ucx", state::limited, facts.ucx_error,
                "look at UCX_TLS and UCX_NET_DEVICES; ucx_info -d lists what UCX sees"};
    auto text = resources_text(*facts.ucx, reports_death);
    if (text.empty())
        return {"ucx", state::limited,
                facts.ucx->version + ", but no transport that tells when a peer dies",
                "leave tcp in UCX_TLS, and a device in UCX_NET_DEVICES"};
    if (const auto trouble = known_trouble(facts.ucx->version); !trouble.empty())
        return {"ucx", state::limited, facts.ucx->version + ": " + text + "; " + trouble,
                "install UCX 1.18 or later in its place"};
    return {"ucx", state::works, facts.ucx->version + ": " + text, {}};
}

/// Bridges to containers have the same address on many machines.
finding judge_network(const machine_facts& facts) {
    std::vector<network_device> used;
    std::string left_out;
    for (const auto& x : facts.devices)
        if (leads_to_containers(x.name))
            left_out += (left_out.empty() ? "" : ", ") + x.name;
        else
            used.push_back(x);
    if (facts.devices.empty())
        return {"network", state::missing, "no network device is up", "bring lo up, at least"};
    if (!facts.net_devices)
        return {"network",
                state::works,
                to_string(used) + (left_out.empty() ? "" : "; not used: " + left_out),
                {}};
    for (const auto& x : facts.devices)
        if (leads_to_containers(x.name)
            && (*facts.net_devices == "all"
                || ("," + *facts.net_devices + ",").find("," + x.name + ",") != std::string::npos))
            return {"network", state::limited,
                    "UCX_NET_DEVICES=" + *facts.net_devices + " offers "
                        + to_string(std::vector<network_device>{x})
                        + ", an address that other machines may have too",
                    "leave UCX_NET_DEVICES unset, or name the device that leads to the peers"};
    return {"network", state::works, "UCX_NET_DEVICES=" + *facts.net_devices, {}};
}

finding judge_strangers(const machine_facts& facts) {
    if (!facts.secret_error.empty())
        return {
            "strangers", state::missing, facts.secret_error,
            "mend it, or unset KVFERRY_SECRET_FILE and KVFERRY_SECRET, or KVFERRY_CERT_FILE and "
            "what goes with it"};
    if (facts.strangers_mode != "secret" && facts.strangers_mode != "certificates")
        return {"strangers", state::limited, facts.strangers,
                "for ranks on other machines: `openssl rand -hex 32` into a file that "
                "KVFERRY_SECRET_FILE names, the same on all, or certificates "
                "(KVFERRY_CERT_FILE)"};
    return {"strangers", state::works, facts.strangers, {}};
}

finding judge_ranks(const machine_facts& facts) {
    if (!facts.rank_error.empty())
        return {"ranks", state::missing, "a rank does not start: " + facts.rank_error,
                "see the lines above; KVFERRY_LOG=info shows more"};
    if (!facts.transfer_error.empty())
        return {"ranks", state::missing,
                "two ranks start, but no block gets across: " + facts.transfer_error,
                "KVFERRY_LOG=debug kvferry doctor shows how far they come"};
    return {
        "ranks", state::works, "two ranks handed a block over, " + facts.transfer_route.text, {}};
}

finding judge_rdma(const machine_facts& facts) {
    if (has_rma(facts))
        return {"rdma", state::works, resources_text(*facts.ucx, has_rma_hardware), {}};
    return {"rdma", state::limited, "UCX finds no RDMA device: other machines are reached over tcp",
            "give this process the adapter (/dev/infiniband) and UCX its verbs transport"};
}

/// What `worker_options::wire` comes to when the host leaves the choice to the rank.
finding judge_wire(const machine_facts& facts) {
    const auto chosen = wires_for(wire_choice::automatic, !facts.rdma_adapters.empty());
    if (chosen.ucx && !has_rma(facts))
        return {"wire", state::limited,
                "tcp: there is an adapter (" + join(facts.rdma_adapters)
                    + "), but UCX has no RDMA transport for it",
                "install UCX with verbs, or look at UCX_TLS"};
    return {"wire", state::works, chosen.why, {}};
}

finding judge_link(const machine_facts& facts) {
    if (facts.link_error.empty())
        return {"same_host_link", state::works, "memory and pidfds pass between processes", {}};
    return {"same_host_link", state::limited, facts.link_error,
            "run the ranks under one user, in one pid and network namespace; otherwise they use "
            "the direct route"};
}

finding judge_memfd(const machine_facts& facts) {
    if (facts.memfd_error.empty())
        return {"memfd", state::works, "pools for sharing can be made", {}};
    return {"memfd", state::limited, facts.memfd_error,
            "allow memfd_create and sealing to this process (Linux 4.16 or later, seccomp)"};
}

finding judge_huge_pages(const machine_facts& facts) {
    const auto size = bytes_text(static_cast<double>(facts.huge_page_bytes));
    if (facts.huge_pages_free > 0)
        return {"huge_pages",
                state::works,
                std::to_string(facts.huge_pages_free) + " of " + std::to_string(facts.huge_pages)
                    + " pages of " + size + " are free",
                {}};
    const auto text = facts.huge_page_bytes == 0 ? std::string{"this kernel has none"}
                      : facts.huge_pages == 0
                          ? "none reserved (pages of " + size + ")"
                          : "all " + std::to_string(facts.huge_pages) + " are taken";
    return {"huge_pages", state::limited, text,
            "sysctl vm.nr_hugepages=N reserves some; pools without them work and copy slower"};
}

finding judge_lock_limit(const machine_facts& facts) {
    if (!facts.lock_bytes_max)
        return {"locked_memory", state::works, "no limit", {}};
    const auto limit = bytes_text(static_cast<double>(*facts.lock_bytes_max));
    if (!has_rma(facts)) // only RDMA locks memory
        return {"locked_memory", state::works, limit + ", but only rdma locks memory", {}};
    return {"locked_memory", state::limited, limit + ": rdma must lock whole pools",
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in the service"};
}

finding judge_cuda(const machine_facts& facts) {
    if (facts.gpus.empty())
        return {"cuda", state::limited, facts.cuda_error,
                "only needed for caches in device memory: install the driver, make the devices "
                "visible to this process"};
    const auto version = std::to_string(facts.cuda_driver_version / 1000) + "."
                         + std::to_string(facts.cuda_driver_version % 1000 / 10);
    const auto text =
        std::to_string(facts.gpus.size()) + " devices, the driver speaks CUDA " + version;
    if (!facts.cuda_built_in)
        return {"cuda", state::limited, text + ", but this build has no kernels",
                "build where nvcc is, or with -DKVFERRY_CUDA=ON"};
    return {"cuda", state::works, text, {}};
}

finding judge_gpu(const gpu& device, std::size_t gpus) {
    const auto name = "cuda_" + std::to_string(device.ordinal);
    auto text = device.name + ", " + bytes_text(static_cast<double>(device.memory_bytes));
    if (gpus == 1)
        return {name, state::works, text, {}};
    std::vector<std::string> peers;
    for (auto peer : device.peers)
        peers.push_back(std::to_string(peer));
    if (peers.size() + 1 == gpus)
        return {name, state::works, text + ", addresses all others", {}};
    return {name, state::limited,
            text + ", addresses " + (peers.empty() ? "no other" : join(peers) + " only"),
            "nvidia-smi topo -m shows the links; the IOMMU and PCIe access control can prevent "
            "peer access"};
}

/// A rank needs some by itself and keeps a reserve, and needs some for each peer (measured:
/// README.md).
finding judge_descriptors(const machine_facts& facts) {
    const auto reachable = std::max(facts.descriptors_max, facts.descriptors_hard_max);
    constexpr auto kept = descriptors_of_a_rank + descriptors_reserve;
    const auto peers = reachable > kept ? (reachable - kept) / descriptors_of_a_peer : 0;
    const auto text = std::to_string(reachable) + " descriptors are enough for one rank with "
                      + std::to_string(peers) + " peers";
    if (reachable == 0 || peers >= 300)
        return {"descriptors", state::works, reachable == 0 ? "the limit is unknown" : text, {}};
    return {"descriptors", peers > 0 ? state::limited : state::missing, text,
            "ulimit -Hn 65536, or LimitNOFILE=65536 in the service"};
}

/// Removes the peer's region from a reason: it is made up and means nothing to the user.
std::string without_subject(std::string why) {
    constexpr std::string_view subject = "region 0 of peer/0 is ";
    if (const auto at = why.find(subject); at != std::string::npos)
        why.erase(at, subject.size());
    return why;
}

/// Asks the code that routes transfers. The writing rank has host memory and all devices; the peer
/// has one pool of this kind.
route_finding judge_route(const machine_facts& facts, memory_kind kind, bool same_host) {
    route_finding result{
        to_string(kind), same_host ? "this machine" : "another machine", "none", {}};
    own_memory own{{{memory_kind::host_shared, mapped_region::by_host, {}}}, {0}, {}};
    if (facts.cuda_built_in)
        for (const auto& device : facts.gpus)
            own.devices.push_back(device.ordinal);
    peer_view peer;
    peer.info.instance = "peer";
    peer.info.pages.emplace().pools.resize(1);
    peer.regions.resize(1);
    peer.regions[0].bytes = 1;
    peer.regions[0].kind = kind;
    if (!same_host || (facts.cuda_built_in && !facts.gpus.empty())) // its device could take puts
        peer.regions[0].access_key.resize(1);
    if (!same_host)
        peer.unmapped_reason = "another machine";
    else if (!facts.link_error.empty())
        peer.unmapped_reason = "no same-host link: " + facts.link_error;
    else if (kind == memory_kind::host_shared && facts.transfer_route.way == route::none)
        peer.unmapped_reason = "not tried";
    else if (kind == memory_kind::host_shared && facts.transfer_route.way != route::mapped)
        peer.unmapped_reason = "a block between two ranks went " + facts.transfer_route.text;
    else if (kind == memory_kind::host_shared)
        peer.mapped.push_back({0, nullptr, 1, nullptr, mapped_region::by_host});
    else if (kind == memory_kind::cuda && !own.devices.empty())
        peer.mapped.push_back({0, nullptr, 1, nullptr, own.devices.front()});
    copy_plan plan;
    plan.parts.resize(1);
    const auto chosen = choose_route(plan, own, peer, route_choice::automatic);
    if (!chosen) {
        result.why = without_subject(text_of(chosen.error()));
        return result;
    }
    result.route = to_string(chosen->taken);
    if (chosen->taken == route::mapped) {
        result.why = chosen->device < 0 ? "the pool is a memfd that the writer maps"
                                        : "a kernel of the writer writes through a CUDA mapping";
        return result;
    }
    result.why = without_subject(chosen->reason);
    result.why += kind == memory_kind::cuda
                      ? "; messages into staging memory, which the target's device scatters"
                  : has_rma(facts) ? "; puts by rdma"
                                   : "; messages that the target reads into place";
    return result;
}

const char* name_of(state x) {
    switch (x) {
    case state::works:
        return "works";
    case state::limited:
        return "limited";
    default:
        return "MISSING";
    }
}

} // namespace

bool report::usable() const {
    return std::none_of(findings.begin(), findings.end(),
                        [](const auto& x) { return x.is == state::missing; });
}

report judge(const machine_facts& facts) {
    report result;
    result.findings = {{"kvferry", state::works, std::string{version()}, {}},
                       judge_ranks(facts),
                       judge_ucx(facts),
                       judge_network(facts),
                       judge_strangers(facts),
                       judge_rdma(facts),
                       judge_wire(facts),
                       judge_descriptors(facts),
                       judge_link(facts),
                       judge_memfd(facts),
                       judge_huge_pages(facts),
                       judge_lock_limit(facts),
                       judge_cuda(facts)};
    for (const auto& device : facts.gpus)
        result.findings.push_back(judge_gpu(device, facts.gpus.size()));
    for (auto kind : {memory_kind::host_shared, memory_kind::host_private, memory_kind::cuda})
        for (const bool same_host : {true, false})
            result.routes.push_back(judge_route(facts, kind, same_host));
    return result;
}

std::string to_text(const report& from) {
    std::vector<std::vector<std::string>> rows;
    for (const auto& x : from.findings)
        rows.push_back(
            {name_of(x.is), x.name, x.text + (x.remedy.empty() ? "" : "  ->  " + x.remedy)});
    std::string result;
    for (const auto& line : demo::format_table({{"state"}, {"what"}, {"found"}}, rows))
        result += line + "\n";
    rows.clear();
    for (const auto& x : from.routes)
        rows.push_back({x.memory, x.peer, x.route, x.why});
    result += "\n";
    for (const auto& line :
         demo::format_table({{"into memory"}, {"of a peer on"}, {"route"}, {"why"}}, rows))
        result += line + "\n";
    return result;
}

std::string to_json(const report& from) {
    auto findings = nlohmann::json::array();
    for (const auto& x : from.findings)
        findings.push_back({{"name", x.name},
                            {"state", x.is == state::missing ? "missing" : name_of(x.is)},
                            {"text", x.text},
                            {"remedy", x.remedy}});
    auto routes = nlohmann::json::array();
    for (const auto& x : from.routes)
        routes.push_back(
            {{"memory", x.memory}, {"peer", x.peer}, {"route", x.route}, {"why", x.why}});
    return nlohmann::json{{"usable", from.usable()}, {"findings", findings}, {"routes", routes}}
        .dump();
}

} // namespace kvferry::doctor
