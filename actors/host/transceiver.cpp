// SPDX-License-Identifier: Apache-2.0
// One table of requests. Sessions report their ends by mail, which is read when the host calls.
#include "actors/host/transceiver.hpp"

#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"
#include "transport/planner/layout/topology.hpp"

#include <caf/send.hpp>

#include <algorithm>
#include <utility>

namespace kvferry {

transceiver::transceiver(caf::actor_system& system, worker& served_by, aux_mode aux)
    : worker_(served_by), aux_(aux), inbox_(system) {}

transceiver::~transceiver() = default;

// -- events -------------------------------------------------------------------------------------

session_options transceiver::options_for(side role, rid request) {
    auto inbox = caf::actor_cast<caf::actor>(inbox_.address());
    session_options result;
    result.request = request;
    result.aux = aux_;
    if (role == side::context)
        result.on_ready = [inbox](const session_ready& event) { caf::anon_send(inbox, event); };
    result.on_outcome = [inbox](const session_finished& event) { caf::anon_send(inbox, event); };
    result.on_released = [inbox](const session_released& event) { caf::anon_send(inbox, event); };
    result.on_piece = [inbox](const piece_finished& event) {
        if (event.error)
            caf::anon_send(inbox, event);
    };
    return result;
}

void transceiver::take(const session_ready& event) {
    if (unready_.erase(event.request) != 0)
        ready_.push_back(event.request);
}

void transceiver::take(const session_finished& event) {
    unready_.erase(event.request);
    if (auto found = requests_.find({event.role, event.request}); found != requests_.end()) {
        found->second.outcome = event;
        found->second.end = clock::now();
    }
}

void transceiver::take(const session_released& event) {
    if (auto found = requests_.find({event.role, event.request}); found != requests_.end())
        found->second.released = true;
}

/// A piece was refused (an aux record that is too long, say). The engine has no call to hand over
/// another one, so the request ends now instead of waiting for its deadline.
void transceiver::take(const piece_finished& event) {
    if (auto found = requests_.find({event.role, event.request});
        found != requests_.end() && !found->second.outcome)
        found->second.handle().cancel(text_of(event.error));
}

/// False when nothing came in time.
bool transceiver::wait_event(clock::time_point until) {
    auto came = true;
    const auto now = clock::now();
    const auto left = std::max(until, now) - now; // `until` may be time_point::min()
    inbox_->receive([this](const session_ready& event) { take(event); },
                    [this](const session_finished& event) { take(event); },
                    [this](const session_released& event) { take(event); },
                    [this](const piece_finished& event) { take(event); },
                    caf::after(left) >> [&came] { came = false; });
    return came;
}

void transceiver::take_events() {
    while (wait_event(clock::time_point::min()))
        ;
}

// -- context side -------------------------------------------------------------------------------

transceiver::entry& transceiver::sending(rid request) {
    auto [found, fresh] = requests_.try_emplace({side::context, request});
    if (fresh) {
        found->second.start = clock::now();
        found->second.tx = worker_.open_tx(options_for(side::context, request));
    }
    return found->second;
}

std::vector<rid> transceiver::prepare_context_requests(const std::vector<rid>& added) {
    for (auto request : added)
        if (!requests_.contains({side::context, request})) {
            unready_.insert(request);
            sending(request);
        }
    take_events();
    return std::exchange(ready_, {});
}

void transceiver::respond_and_send_async(rid request, kv_slice slice, std::optional<aux_record> aux,
                                         device_events events) {
    const auto last = slice.last;
    auto& entry = sending(request);
    entry.tx->send(std::move(slice), events);
    if (last && aux)
        entry.tx->send_aux(std::move(*aux));
}

transfer_check transceiver::check_context_transfer_status(std::optional<std::size_t> at_least,
                                                          std::chrono::milliseconds patience) {
    return check(side::context, at_least, patience);
}

context_address transceiver::address() const {
    const auto info = worker_.info();
    return {worker_.info_endpoint(), info ? dp_rank(info->info.layout) : 0};
}

// -- generation side ----------------------------------------------------------------------------

caf::error transceiver::request_and_receive_async(rid request, kv_slice slice, context_address from,
                                                  device_events events) {
    auto [found, fresh] = requests_.try_emplace({side::generation, request});
    if (!fresh)
        return make_error(errc::duplicate,
                          "rid {} has a receiving request that is not reported yet", request);
    slice.last = true;
    found->second.start = clock::now();
    found->second.rx = worker_.open_rx(options_for(side::generation, request), std::move(from));
    found->second.rx->receive(std::move(slice), events);
    return {};
}

session_finished transceiver::request_and_receive_sync(rid request, kv_slice slice,
                                                       context_address from, device_events events) {
    if (auto problem =
            request_and_receive_async(request, std::move(slice), std::move(from), events))
        return {.role = side::generation,
                .request = request,
                .state = session_state::error,
                .error = problem};
    return requests_.at({side::generation, request}).rx->outcome().get();
}

transfer_check transceiver::check_gen_transfer_status(std::optional<std::size_t> at_least,
                                                      std::chrono::milliseconds patience) {
    return check(side::generation, at_least, patience);
}

bool transceiver::check_gen_transfer_complete() {
    take_events();
    return std::none_of(requests_.begin(), requests_.end(), [](const auto& request) {
        return request.first.first == side::generation;
    });
}

// -- both ---------------------------------------------------------------------------------------

std::size_t transceiver::count(side role, bool (*is)(const entry&)) const {
    return static_cast<std::size_t>(
        std::count_if(requests_.begin(), requests_.end(), [role, is](const auto& each) {
            return each.first.first == role && is(each.second);
        }));
}

transfer_check transceiver::check(side role, std::optional<std::size_t> at_least,
                                  std::chrono::milliseconds patience) {
    take_events();
    constexpr auto ended = [](const entry& x) { return x.outcome && x.released; };
    constexpr auto open = [](const entry& x) { return !x.outcome || !x.released; };
    // A success is released right after its outcome; a failure waits for proof that may not come.
    constexpr auto bounded = [](const entry& x) {
        return !x.outcome || (!x.outcome->error && !x.released);
    };
    if (!at_least) {
        while (count(role, bounded) > 0)
            wait_event(clock::now() + default_patience);
    } else {
        const auto until = clock::now() + patience;
        while (count(role, ended) < *at_least && count(role, open) > 0 && wait_event(until))
            ;
    }
    transfer_check result;
    for (auto each = requests_.begin(); each != requests_.end();) {
        const auto& [id, request] = *each;
        if (id.first != role || !ended(request)) {
            ++each;
            continue;
        }
        const auto& outcome = *request.outcome;
        ended_request told{
            id.second, outcome.state, outcome.error, outcome.aux, 0, request.end - request.start};
        for (const auto& peer : outcome.peers)
            told.bytes += peer.bytes;
        auto& list = outcome.state == session_state::cancelled ? result.cancelled
                     : outcome.error                           ? result.failed
                                                               : result.completed;
        list.push_back(std::move(told));
        each = requests_.erase(each);
    }
    return result;
}

bool transceiver::cancel_request(rid request) {
    take_events();
    auto safe = true;
    for (auto role : {side::context, side::generation}) {
        auto found = requests_.find({role, request});
        if (found == requests_.end())
            continue;
        if (!found->second.outcome)
            found->second.handle().cancel();
        safe = safe && found->second.released;
    }
    return safe;
}

bool transceiver::has_inflight_transfer(rid request) {
    take_events();
    return std::any_of(requests_.begin(), requests_.end(), [request](const auto& each) {
        return each.first.second == request && !each.second.released;
    });
}

std::vector<rid> transceiver::quarantined() {
    take_events();
    std::vector<rid> result;
    for (const auto& [id, request] : requests_)
        if (request.outcome && !request.released)
            result.push_back(id.second);
    return result;
}

std::string transceiver::get_status_dump() {
    take_events();
    std::map<std::string, std::size_t> counts;
    for (const auto& [id, request] : requests_) {
        std::string state = "in flight";
        if (request.outcome)
            state = request.released ? to_string(request.outcome->state) : "quarantined";
        else if (unready_.contains(id.second) && id.first == side::context)
            state = "waiting for receivers";
        ++counts[to_string(id.first) + " " + state];
    }
    std::string result;
    for (const auto& [what, count] : counts)
        result.append(result.empty() ? "" : ", ").append(what + ": " + std::to_string(count));
    return result.empty() ? "no requests" : result;
}

} // namespace kvferry
