// SPDX-License-Identifier: Apache-2.0
// What must not happen twice on the wire.
#include "tests/harness/frame_referee.hpp"

#include "messages/limits.hpp"

namespace kvferry::harness {

namespace {

constexpr std::size_t recent_max = 64;

} // namespace

void frame_referee::sent(incarnation from, incarnation to, byte_view frame, time_point now) {
    recent_.push_back({from, to, {frame.begin(), frame.end()}});
    if (recent_.size() > recent_max)
        recent_.pop_front();
    auto message = decode(frame, limits{}.message_bytes_max);
    if (!message)
        return report_("a rank has sent a frame that cannot be decoded: "
                       + describe(message.error()));
    const auto& header = header_of(*message);
    auto claim = [&](payload_kind kind) {
        report_key key{from, to, header.attempt, header.receive_slice, header.piece.index.value,
                       kind};
        if (!reports_.insert(key).second)
            report_("two reports for " + describe(header));
    };
    if (std::holds_alternative<kv_agent_result>(*message)) {
        claim(payload_kind::kv);
    } else if (std::holds_alternative<aux_agent_result>(*message)) {
        claim(payload_kind::aux);
    } else if (const auto* cancel = std::get_if<cancel_session>(&*message)) {
        if (!cancels_.insert({from, to, header.attempt, header.receive_slice, cancel->to}).second
            && !died_.contains(header.attempt))
            report_("two cancels for " + describe(header));
    } else if (std::holds_alternative<request_data>(*message)) {
        ++requests_;
    } else if (std::holds_alternative<gone>(*message)) {
        gone_.try_emplace({from, header.attempt}, now);
    }
}

void frame_referee::delivered(incarnation to, byte_view frame, time_point now) {
    auto message = decode(frame, limits{}.message_bytes_max);
    if (!message || !std::holds_alternative<request_data>(*message))
        return;
    const auto& request = std::get<request_data>(*message);
    const auto& header = header_of(*message);
    if (!request.kv && request.aux == aux_mode::none) {
        // The rank is a bystander: the request asks for nothing. It still renews the lease of the
        // rid.
        last_asked_[{to, header.request}] = now;
        return;
    }
    asked_.try_emplace({to, header.attempt}, now);
    auto [known, fresh] = deliveries_.try_emplace({to, header.attempt, header.receive_slice});
    auto& seen = known->second;
    auto& last = last_asked_[{to, header.request}];
    if (!fresh && now - last > seen.longest) {
        seen.longest = now - last;
        seen.behind_longest = now;
    }
    seen.reader = header.sender;
    seen.request = header.request;
    last = now;
}

std::vector<frame_referee::forgotten>
frame_referee::forgotten_requests(std::chrono::microseconds lease) const {
    std::vector<forgotten> result;
    for (const auto& [key, seen] : deliveries_)
        if (seen.longest > lease)
            result.push_back({seen.reader, std::get<0>(key), seen.request, std::get<1>(key),
                              seen.behind_longest});
    return result;
}

} // namespace kvferry::harness
