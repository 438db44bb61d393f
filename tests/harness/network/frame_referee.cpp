// SPDX-License-Identifier: Apache-2.0
// What must not happen twice on the wire.
#include "tests/harness/network/frame_referee.hpp"

#include "actors/decisions/links/message_order.hpp"
#include "messages/limits.hpp"
#include "tests/harness/urgency.hpp"

#include <algorithm>

namespace kvferry::harness {

namespace {

constexpr std::size_t recent_max = 64;

/// Behind all pieces of any session: the answer "in doubt" to a question about an ended attempt,
/// which may be asked again and is then answered again.
constexpr slice_index behind_all{~std::uint32_t{0}};

/// Links start to count at numbers of their own (peer_link). Over a new link to the same process a
/// rank may say again what may have been lost with the former one.
std::uint64_t link_of(const message_header& header) {
    return header.sequence >> 32;
}

} // namespace

read_frame frame_referee::read(byte_view frame) {
    auto message = decode(frame, limits{}.message_bytes_max);
    return message ? std::make_shared<const wire_message>(std::move(*message)) : nullptr;
}

/// A frame is read once, however often it arrives: that is much of what a simulation does.
read_frame frame_referee::sent(incarnation from, incarnation to, byte_view frame, time_point now) {
    recent_.push_back({from, to, {frame.begin(), frame.end()}});
    if (recent_.size() > recent_max)
        recent_.pop_front();
    auto message = read(frame);
    if (!message) {
        report_("a rank has sent a frame that cannot be decoded: "
                + describe(decode(frame, limits{}.message_bytes_max).error()));
        return message;
    }
    const auto& header = header_of(*message);
    if (header.sequence != beside_order)
        heard_.try_emplace({from, to, link_of(header)}, hearing{header.sequence, {}});
    for (const auto who : {from, to})
        if (const auto spoken = spoken_.find(who);
            spoken != spoken_.end() && header.version > spoken->second)
            report_(std::string{name_of(*message)} + " in version " + std::to_string(header.version)
                    + ", of which " + (who == from ? "its sender" : "its receiver")
                    + " knows nothing");
    auto claim = [&](payload_kind kind) {
        report_key key{from,
                       to,
                       header.attempt,
                       header.receive_slice,
                       header.piece.index.value,
                       kind,
                       link_of(header)};
        if (!reports_.insert(key).second)
            report_("two reports for " + describe(header));
    };
    if (const auto* request = std::get_if<request_data>(&*message); request && request->kv)
        told_.insert({to, header.attempt});
    if (const auto* report = std::get_if<kv_agent_result>(&*message)) {
        const bool in_doubt = report->result == agent_result::in_doubt;
        if (!in_doubt || header.piece.index != behind_all)
            claim(payload_kind::kv);
        if (in_doubt && !report->by_messages) // those its reader shuts out
            in_doubt_.insert({from, header.attempt});
    } else if (std::holds_alternative<aux_agent_result>(*message)) {
        claim(payload_kind::aux);
    } else if (const auto* cancel = std::get_if<cancel_session>(&*message)) {
        if (!cancels_
                 .insert(
                     {from, to, header.attempt, header.receive_slice, cancel->to, link_of(header)})
                 .second
            && !died_.contains(header.attempt))
            report_("two cancels for " + describe(header));
    } else if (const auto* request = std::get_if<request_data>(&*message)) {
        ++requests_;
        // Releases before that do not say it.
        constexpr std::uint16_t first_version_with_urgency = 7;
        if (header.version >= first_version_with_urgency && request->kv
            && request->urgency != urgency_of(header.request))
            report_("a request of " + to_string(request->urgency)
                    + " priority: " + describe(header));
        auto& wants = wanted_[{to, header.attempt}];
        if (request->kv)
            wants.slices.insert(header.receive_slice);
        wants.last_slice = wants.last_slice || request->target.last;
        wants.aux = wants.aux || request->aux != aux_mode::none;
    } else if (std::holds_alternative<gone>(*message)) {
        gone_.try_emplace({from, header.attempt}, now);
    }
    return message;
}

void frame_referee::delivered(incarnation to, const wire_message& message, time_point now) {
    const auto& header = header_of(message);
    hear_in_order(to, header, std::get_if<request_data>(&message), now);
    if (std::holds_alternative<kv_agent_result>(message)) {
        auto& wants = wanted_[{header.sender, header.attempt}];
        wants.pieces[header.receive_slice].insert(header.piece.index.value);
        if (header.piece.last)
            wants.last_piece[header.receive_slice] = header.piece.index.value;
    } else if (std::holds_alternative<aux_agent_result>(message)) {
        wanted_[{header.sender, header.attempt}].aux_came = true;
    }
}

/// A rank hears a message of a link when all before it have come, each once.
void frame_referee::hear_in_order(incarnation to, const message_header& header,
                                  const request_data* request, time_point now) {
    const auto link = heard_.find({header.sender, to, link_of(header)});
    if (header.sequence == beside_order || link == heard_.end()) {
        if (request)
            note_request(to, *request, now);
        return;
    }
    auto& [next, early] = link->second;
    if (header.sequence < next)
        return;
    if (header.sequence > next) {
        early.emplace(header.sequence, request ? std::optional{*request} : std::nullopt);
        return;
    }
    if (request)
        note_request(to, *request, now);
    for (++next; !early.empty() && early.begin()->first == next; ++next) {
        if (const auto& each = early.begin()->second)
            note_request(to, *each, now);
        early.erase(early.begin());
    }
}

bool frame_referee::has_served(incarnation writer, attempt session) const {
    auto found = wanted_.find({writer, session});
    if (found == wanted_.end() || !found->second.last_slice)
        return false;
    const auto& wants = found->second;
    return (!wants.aux || wants.aux_came)
           && std::all_of(wants.slices.begin(), wants.slices.end(), [&wants](slice_index slice) {
                  auto last = wants.last_piece.find(slice);
                  return last != wants.last_piece.end()
                         && wants.pieces.at(slice).size() == std::size_t{last->second} + 1;
              });
}

bool frame_referee::has_begun(incarnation writer, attempt session) const {
    auto found = wanted_.find({writer, session});
    return found != wanted_.end() && !found->second.pieces.empty();
}

void frame_referee::note_request(incarnation to, const request_data& request, time_point now) {
    const auto& header = request.header;
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
