// SPDX-License-Identifier: Apache-2.0
// The order of a stop, and what it names.
#include "actors/decisions/stopping.hpp"

#include "messages/values/error_format.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

stopping::effects stopping::on(event&& happened, time_point now) {
    return std::visit([this, now](auto& x) { return on(x, now); }, happened);
}

stopping::effects stopping::on(told& x, time_point now) {
    if (begun())
        return {refuse{make_error(errc::duplicate, "{} is stopping already", who_)}};
    by_ = now + x.within;
    owed_ = owed::answer;
    effects result{end_registrar{}, arm{x.within}};
    if (x.has_sessions) {
        phase_ = ending_sessions{};
        result.push_back(cancel_sessions{make_error(errc::stopped, "{} is stopping", who_)});
        return result;
    }
    for (auto& effect : begin_closing_links(now))
        result.push_back(std::move(effect));
    return result;
}

/// A sender or receiver that died has lost what its sessions had lent; so have some of its sessions
/// that did.
stopping::effects stopping::on(sessions_ended& x, time_point now) {
    auto* ending = std::get_if<ending_sessions>(&phase_);
    if (!ending)
        return {};
    if (x.kept)
        ending->kept.push_back(code_of(x.kept) == errc::handler_failed
                                       || code_of(x.kept) == errc::transfer_in_doubt
                                   ? text_of(x.kept)
                               : x.rank_failed ? text_of(x.rank_failed)
                                               : to_string(x.kept));
    if (--ending->tables > 0)
        return {};
    if (owed_ != owed::nothing && ending->kept.empty())
        return begin_closing_links(now);
    phase_ = keeping{std::move(ending->kept)};
    if (owed_ != owed::answer)
        return {};
    owed_ = owed::answer_with_list;
    return {list_sessions{}};
}

/// A peer that does not read gets half of the time that is left; then its link is cut, which costs
/// nothing: no page is on loan any more.
stopping::effects stopping::begin_closing_links(time_point now) {
    phase_ = closing_links{};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(by_ - now);
    return {close_links{make_error(errc::stopped, "{} has stopped", who_),
                        std::max(left / 2, std::chrono::milliseconds{0})}};
}

stopping::effects stopping::on(links_ended&, time_point) {
    if (!std::holds_alternative<closing_links>(phase_))
        return {};
    phase_ = stopping_io{};
    return {stop_io{}};
}

stopping::effects stopping::on(io_ended&, time_point) {
    if (!std::holds_alternative<stopping_io>(phase_))
        return {};
    phase_ = over{};
    if (std::exchange(owed_, owed::nothing) == owed::nothing)
        return {leave{}};
    return {answer{}, leave{}};
}

stopping::effects stopping::on(deadline_reached&, time_point) {
    if (owed_ != owed::answer)
        return {};
    owed_ = owed::answer_with_list;
    return {list_sessions{}};
}

/// Ends the stop by naming what is kept.
stopping::effects stopping::on(listed& x, time_point) {
    if (std::exchange(owed_, owed::nothing) == owed::nothing)
        return {};
    answer result;
    if (const auto* ending = std::get_if<ending_sessions>(&phase_))
        result.unproven = ending->kept;
    else if (const auto* kept = std::get_if<keeping>(&phase_))
        result.unproven = kept->kept;
    result.unproven.insert(result.unproven.end(), x.sessions.begin(), x.sessions.end());
    if (result.unproven.empty())
        result.unproven.push_back("links or I/O of " + who_ + " did not end in time");
    return {std::move(result)};
}

stopping::effects stopping::on(not_listed& x, time_point) {
    if (std::exchange(owed_, owed::nothing) == owed::nothing)
        return {};
    return {fail_answer{std::move(x.reason)}};
}

} // namespace kvferry
