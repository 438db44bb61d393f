// SPDX-License-Identifier: Apache-2.0
// One question at a time; anything else ends the connection.
#include "actors/instance/info_visitor.hpp"

#include "actors/instance/info_stream.hpp"
#include "messages/values/error_format.hpp"

#include <array>

namespace kvferry {

info_visitor::info_visitor(const security& how, std::size_t question_bytes_max)
    : question_bytes_max_(question_bytes_max), needs_proof_(how.needs_proof()),
      stream_(how.open(stream_role::acceptor, stream_carrier{carried_})) {}

caf::expected<std::optional<info_frame>> info_visitor::take(caf::span<const caf::byte> bytes) {
    if (asking_)
        return make_error(errc::malformed_message,
                          "it goes on speaking before its question is answered");
    carried_.arrived.insert(carried_.arrived.end(), bytes.begin(), bytes.end());
    if (!shaken_) {
        auto wants = stream_->handshake();
        if (!wants)
            return std::move(wants.error());
        if (*wants != stream_want::nothing)
            return std::optional<info_frame>{};
        shaken_ = true;
        proven_ = needs_proof_;
    }
    if (auto problem = read_question())
        return problem;
    if (question_.size() < sizeof(stream_length))
        return std::optional<info_frame>{};
    const auto whole = sizeof(stream_length) + from_stream_length(question_.data());
    if (whole > sizeof(stream_length) + question_bytes_max_)
        return make_error(errc::malformed_message,
                          "it announces a question of {} bytes, {} are taken",
                          whole - sizeof(stream_length), question_bytes_max_);
    if (question_.size() > whole)
        return make_error(errc::malformed_message, "more bytes follow its question");
    if (question_.size() < whole)
        return std::optional<info_frame>{};
    asking_ = true;
    return std::optional{
        info_frame{byte_buffer{question_.begin() + sizeof(stream_length), question_.end()}}};
}

caf::error info_visitor::read_question() {
    std::array<caf::byte, 16384> piece;
    for (;;) {
        const iovec place{piece.data(), piece.size()};
        auto moved = stream_->read({&place, 1});
        if (!moved)
            return std::move(moved.error());
        question_.insert(question_.end(), piece.begin(),
                         piece.begin() + static_cast<std::ptrdiff_t>(moved->bytes));
        if (moved->bytes < piece.size())
            return {};
    }
}

caf::error info_visitor::answer(byte_view frame) {
    asking_ = false;
    question_ = {};
    auto length = to_stream_length(frame.size());
    const iovec parts[] = {{length.data(), length.size()},
                           {const_cast<caf::byte*>(frame.data()), frame.size()}};
    auto moved = stream_->write(parts);
    return moved ? caf::error{} : std::move(moved.error());
}

} // namespace kvferry
