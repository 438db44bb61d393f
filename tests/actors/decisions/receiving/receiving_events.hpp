// SPDX-License-Identifier: Apache-2.0
// Events of a receiving attempt, and its effects in words. Writers are numbers; writer n has
// incarnation 100 + n.
#pragma once

#include "actors/decisions/receiving/receiving.hpp"
#include "messages/type_ids.hpp"

#include <string>
#include <utility>
#include <vector>

namespace kvferry::testing {

inline receiving::facts facts_of_attempt(aux_mode aux = aux_mode::none,
                                         bool forbidding_is_proof = true) {
    receiving::facts result;
    result.request = {7};
    result.attempt = {4711};
    result.aux = aux;
    result.self = "gen/9";
    result.context_endpoint = "ctx:1";
    result.forbidding_is_proof = forbidding_is_proof;
    return result;
}

inline incarnation process_of(std::uint32_t rank) {
    return {100 + rank};
}

inline writer_binding writer(std::uint32_t rank, bool kv = true, bool aux = false,
                             std::uint32_t dp_rank = 0) {
    return {{rank}, process_of(rank), kv, aux, {{9}}, dp_rank, "ctx"};
}

/// A rank of the own instance that hands on.
inline writer_binding sibling(std::uint32_t rank, bool aux = false) {
    auto result = writer(rank, true, aux);
    result.instance = "gen";
    result.sibling = true;
    return result;
}

inline bind_writers bind(std::vector<writer_binding> writers) {
    return {std::move(writers), {}};
}

inline receive_slice slice(bool last = true) {
    kv_slice result;
    result.tokens = {0, 32};
    result.prompt_tokens = 32;
    result.groups = {{0, {1, 2}}};
    result.last = last;
    return {std::move(result)};
}

inline message_header header_from(std::uint32_t rank, payload_kind kind = payload_kind::kv,
                                  std::uint32_t slice = 0, send_piece piece = {{0}, true}) {
    message_header result;
    result.sender = process_of(rank);
    result.request = {7};
    result.attempt = {4711};
    result.receive_slice = {slice};
    result.piece = piece;
    result.writer = {rank};
    result.kind = kind;
    return result;
}

inline kv_agent_result report(std::uint32_t rank, send_piece piece = {{0}, true},
                              agent_result how = agent_result::success, std::uint32_t slice = 0) {
    kv_agent_result result;
    result.header = header_from(rank, payload_kind::kv, slice, piece);
    result.result = how;
    result.bytes = 100;
    result.fragments = 2;
    result.route = "mapped";
    if (how != agent_result::success)
        result.error = {errc::transfer_failed, "wire cut"};
    return result;
}

inline aux_agent_result aux_report(std::uint32_t rank, agent_result how = agent_result::success) {
    aux_agent_result result;
    result.header = header_from(rank, payload_kind::aux);
    result.result = how;
    if (how == agent_result::success)
        result.record.first_tokens = {42};
    else
        result.error = {errc::transfer_failed, "no record"};
    return result;
}

inline gone gone_from(std::uint32_t rank, payload_kind kind = payload_kind::kv,
                      std::uint32_t slice = 0) {
    return {header_from(rank, kind, slice), side::generation, {errc::gone, "unknown"}};
}

inline refused refused_by(std::uint32_t rank, errc why = errc::layout_mismatch,
                          std::uint32_t slice = 0) {
    refused result;
    result.header = header_from(rank, payload_kind::kv, slice);
    result.reason = {why, "not so"};
    return result;
}

inline cancel_session cancelled_by(std::uint32_t rank) {
    return {header_from(rank), side::generation, {errc::cancelled, "the sender cancelled"}};
}

inline peer_lost lost(std::uint32_t rank, errc why = errc::link_lost, bool dialled_again = false) {
    return {process_of(rank), make_error(why, "no route"), dialled_again};
}

/// "cancel 1 (link_lost)"
std::string in_words(const receiving::effect&);
/// Separated by "; ".
std::string in_words(const receiving::effects&);
/// "waiting"
std::string in_words(const receiving::phase&);

} // namespace kvferry::testing
