// SPDX-License-Identifier: Apache-2.0
// Each bug is a wrong attempt to receive: it changes events before the right one sees them, or its
// effects afterwards. tests/harness/planted/planted_bugs.cpp says which mistake each repeats.
#include "tests/harness/planted/planted_receiving.hpp"

#include "messages/type_ids.hpp"
#include "tests/harness/planted/wrong_decider.hpp"
#include "tests/harness/planted_bug.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace kvferry::harness {

namespace {

using event = receiving::event;
using effects = receiving::effects;

template <class T>
T* find(effects& all) {
    for (auto& each : all)
        if (auto* found = std::get_if<T>(&each))
            return found;
    return nullptr;
}

bool has_ended(const receiving& x) {
    return std::holds_alternative<receiving::ended>(x.now_in())
           || std::holds_alternative<receiving::released>(x.now_in());
}

void release_at_once(effects& all, receiving& value) {
    if (value.is_released())
        return;
    const auto& known = value.fixed();
    all.push_back(session_released{side::generation, known.request, known.attempt});
    all.push_back(session_retired{known.request, known.attempt, {}});
}

/// The reports of all writers so far.
class reports {
public:
    struct slice {
        std::set<std::uint32_t> heard;
        std::optional<std::uint32_t> last;
        bool complete() const { return last && heard.size() == std::size_t{*last} + 1; }
    };

    slice& of(const message_header& x) { return slices_[{x.sender, x.receive_slice}]; }

    void add(const message_header& x) {
        auto& known = of(x);
        known.heard.insert(x.piece.index.value);
        if (x.piece.last)
            known.last = x.piece.index.value;
    }

private:
    std::map<std::pair<incarnation, slice_index>, slice> slices_;
};

struct counted_reports {
    reports known;

    bool operator()(event& x) {
        if (auto* report = std::get_if<kv_agent_result>(&x)) {
            auto& piece = report->header.piece;
            const auto& heard = known.of(report->header).heard;
            if (heard.contains(piece.index.value))
                piece.index.value = static_cast<std::uint32_t>(heard.size());
            known.add(report->header);
        }
        return true;
    }
};

/// The missing ones count as if they had come. An index behind all pieces only says: in doubt.
effects complete(receiving& value, const kv_agent_result& last, time_point now) {
    constexpr std::uint32_t pieces_max = 64;
    effects result;
    if (last.header.piece.index.value > pieces_max)
        return result;
    auto missing = last;
    missing.bytes = missing.fragments = 0;
    missing.digest.reset();
    missing.header.piece.last = false;
    for (std::uint32_t index = 0; index < last.header.piece.index.value; ++index) {
        missing.header.piece.index = {index};
        append(result, value.on(missing, now));
    }
    drop<receiving::ignore_message>(result);
    return result;
}

effects last_piece_is_all(receiving& value, event x, time_point now) {
    const auto* report = std::get_if<kv_agent_result>(&x);
    if (!report || !report->header.piece.last)
        return value.on(std::move(x), now);
    const auto last = *report;
    auto result = value.on(std::move(x), now);
    append(result, complete(value, last, now));
    return result;
}

/// The aux record stands for all that was asked for.
struct aux_before_kv {
    reports known;
    std::vector<message_header> asked;

    effects operator()(receiving& value, event x, time_point now) {
        if (const auto* report = std::get_if<kv_agent_result>(&x))
            known.add(report->header);
        const auto* aux = std::get_if<aux_agent_result>(&x);
        const auto record = aux && aux->result == agent_result::success;
        auto result = value.on(std::move(x), now);
        for (const auto& each : result)
            if (const auto* ask = std::get_if<receiving::ask_writer>(&each);
                ask && ask->request.kv) {
                asked.push_back(ask->request.header);
                asked.back().sender = ask->writer;
            }
        for (auto& header : asked) {
            if (!record)
                break;
            auto& slice = known.of(header);
            header.piece.last = true;
            header.piece.index.value =
                slice.last.value_or(slice.heard.empty() ? 0 : *slice.heard.rbegin() + 1);
            kv_agent_result all;
            all.header = header;
            append(result, value.on(all, now));
            append(result, complete(value, all, now));
        }
        return result;
    }
};

/// It does not wait for what it was told to wait for.
effects aux_not_awaited(receiving& value, event x, time_point now) {
    if (value.fixed().aux != aux_mode::none) {
        auto fixed = value.fixed();
        fixed.aux = aux_mode::none;
        value = receiving{std::move(fixed)};
    }
    return value.on(std::move(x), now);
}

struct early_aux_dropped {
    std::set<incarnation> have_reported;

    bool operator()(event& x) {
        if (const auto* report = std::get_if<kv_agent_result>(&x); report && report->bytes != 0)
            have_reported.insert(report->header.sender);
        const auto* aux = std::get_if<aux_agent_result>(&x);
        return !aux || have_reported.contains(aux->header.sender);
    }
};

struct writer_mixed_up {
    std::optional<writer_binding> first;

    bool operator()(event& x) {
        if (const auto* bound = std::get_if<bind_writers>(&x); bound && !bound->writers.empty())
            first = bound->writers.front();
        if (auto* report = std::get_if<kv_agent_result>(&x); report && first) {
            report->header.sender = first->incarnation;
            report->header.writer = first->rank;
        }
        return true;
    }
};

struct one_failure_frees_all {
    std::vector<writer_binding> writers;

    effects operator()(receiving& value, event x, time_point now) {
        if (const auto* bound = std::get_if<bind_writers>(&x))
            writers = bound->writers;
        const auto* report = std::get_if<kv_agent_result>(&x);
        const auto failed = report && report->result != agent_result::success;
        auto result = value.on(std::move(x), now);
        for (const auto& each : writers)
            if (failed)
                append(result, value.on(process_gone{each.incarnation}, now));
        return result;
    }
};

effects link_loss_is_proof(receiving& value, event x, time_point now) {
    const auto* lost = std::get_if<peer_lost>(&x);
    const auto peer = lost ? lost->peer : incarnation{};
    auto result = value.on(std::move(x), now);
    if (peer != incarnation{} && has_ended(value))
        append(result, value.on(process_gone{peer}, now));
    return result;
}

struct cancel_ping_pong {
    std::set<incarnation> linked;

    effects operator()(receiving& value, event x, time_point now) {
        if (const auto* link = std::get_if<receiving::writer_linked>(&x))
            linked.insert(link->writer);
        if (const auto* lost = std::get_if<peer_lost>(&x))
            linked.erase(lost->peer);
        if (const auto* gone = std::get_if<process_gone>(&x))
            linked.erase(gone->peer);
        effects result;
        if (const auto* cancel = std::get_if<cancel_session>(&x);
            cancel && linked.contains(cancel->header.sender))
            result.push_back(receiving::cancel_writer{
                cancel->header.sender, {cancel->header, side::context, cancel->reason}});
        append(result, value.on(std::move(x), now));
        return result;
    }
};

struct gone_undoes_service {
    reports known;

    bool operator()(event& x) {
        if (const auto* report = std::get_if<kv_agent_result>(&x))
            known.add(report->header);
        if (const auto* answer = std::get_if<gone>(&x);
            answer && known.of(answer->header).complete())
            x = cancel_session{answer->header, answer->to, answer->reason};
        return true;
    }
};

effects outcome_changes(receiving& value, event x, time_point now) {
    const auto again = std::holds_alternative<cancel_request>(x) && has_ended(value);
    auto result = value.on(std::move(x), now);
    if (again) {
        session_finished changed;
        changed.role = side::generation;
        changed.request = value.fixed().request;
        changed.attempt = value.fixed().attempt;
        changed.state = session_state::cancelled;
        changed.error = make_error(errc::cancelled, "the host cancelled");
        result.push_back(std::move(changed));
    }
    return result;
}

effects forbid_not_awaited(receiving& value, event x, time_point now) {
    auto result = value.on(std::move(x), now);
    if (find<forbid_writes>(result))
        append(result, value.on(receiving::writes_forbidden{}, now));
    return result;
}

struct forbid_covers_mappings {
    std::set<incarnation> watched;

    effects operator()(receiving& value, event x, time_point now) {
        if (auto* link = std::get_if<receiving::writer_linked>(&x))
            if (std::exchange(link->process_watched, false))
                watched.insert(link->writer);
        auto result = value.on(std::move(x), now);
        for (auto& each : result)
            if (auto* ask = std::get_if<receiving::ask_writer>(&each))
                ask->request.may_map = watched.contains(ask->writer);
        return result;
    }
};

struct handed_on_pages_back {
    bool hands_on = false;
    bool given_back = false;

    effects operator()(receiving& value, event x, time_point now) {
        auto result = value.on(std::move(x), now);
        hands_on = hands_on || find<receiving::open_relay>(result);
        if (given_back)
            drop<session_released>(result);
        const auto* end = find<session_finished>(result);
        if (hands_on && end && !end->error && !find<session_released>(result)) {
            given_back = true;
            const auto& known = value.fixed();
            result.push_back(session_released{side::generation, known.request, known.attempt});
        }
        return result;
    }
};

struct handed_on_before_it_came {
    bool hands_on = false;
    std::vector<kv_slice> given;

    effects operator()(receiving& value, event x, time_point now) {
        if (const auto* slice = std::get_if<receive_slice>(&x))
            given.push_back(slice->slice);
        auto result = value.on(std::move(x), now);
        drop<receiving::hand_on>(result);
        hands_on = hands_on || find<receiving::open_relay>(result);
        if (hands_on)
            for (auto& each : std::exchange(given, {}))
                result.push_back(receiving::hand_on{std::move(each)});
        return result;
    }
};

struct handed_on_by_one_writer {
    bool hands_on = false;
    std::vector<kv_slice> given;
    std::vector<slice_extent> early;

    effects operator()(receiving& value, event x, time_point now) {
        if (const auto* slice = std::get_if<receive_slice>(&x))
            given.push_back(slice->slice);
        std::optional<slice_extent> written;
        if (const auto* report = std::get_if<kv_agent_result>(&x))
            written = report->extent;
        auto result = value.on(std::move(x), now);
        hands_on = hands_on || find<receiving::open_relay>(result);
        if (!hands_on || given.size() != 1)
            return result;
        effects mine;
        if (written && std::find(early.begin(), early.end(), *written) == early.end()) {
            early.push_back(*written);
            mine.push_back(receiving::hand_on{part_of(given.front(), *written)});
        }
        if (!early.empty())
            std::erase_if(result, [&](receiving::effect& each) {
                auto* part = std::get_if<receiving::hand_on>(&each);
                if (part && part->slice.last) // nothing is left but to say so
                    part->slice.tokens.begin = part->slice.tokens.end;
                return part && !part->slice.last;
            });
        append(mine, std::move(result));
        return mine;
    }

    static kv_slice part_of(kv_slice whole, const slice_extent& extent) {
        whole.tokens = extent.tokens;
        whole.layers = extent.layers;
        whole.last = false;
        return whole;
    }
};

struct handed_on_when_all_is_here {
    std::vector<receiving::hand_on> kept;

    effects operator()(receiving& value, event x, time_point now) {
        auto result = value.on(std::move(x), now);
        for (const auto& each : result)
            if (const auto* part = std::get_if<receiving::hand_on>(&each))
                kept.push_back(*part);
        drop<receiving::hand_on>(result);
        if (find<session_finished>(result))
            for (auto& each : std::exchange(kept, {}))
                result.push_back(std::move(each));
        return result;
    }
};

effects rest_never_asked(receiving& value, event x, time_point now) {
    auto result = value.on(std::move(x), now);
    std::erase_if(result, [](const receiving::effect& each) {
        const auto* ask = std::get_if<receiving::ask_writer>(&each);
        return ask && !ask->request.views.empty() && !ask->request.header.relay
               && ask->request.header.receive_slice.value % 2 == 1;
    });
    return result;
}

effects relay_failure_is_final(receiving& value, event x, time_point now) {
    auto result = value.on(std::move(x), now);
    if (const auto* failed = find<receiving::relay_given_up>(result))
        append(result, value.on(receiving::carrier_failed{failed->reason}, now));
    return result;
}

bool forgets_others(const receiving::effect& x) {
    const auto* cancel = std::get_if<receiving::cancel_writer>(&x);
    return cancel && cancel->message.reason.code == errc::not_selected;
}

/// Empty when the planted bug is none of these.
decider<receiving> wrong_receiving() {
    switch (planted_now) {
    case planted_bug::release_on_timeout:
        return afterwards<receiving>([](effects& all, receiving& value) {
            if (const auto* end = find<session_finished>(all);
                end && code_of(end->error) == errc::deadline_exceeded)
                release_at_once(all, value);
        });
    case planted_bug::release_on_cancel:
        return afterwards<receiving>([](effects& all, receiving& value) {
            if (const auto* end = find<session_finished>(all);
                end && end->state == session_state::cancelled)
                release_at_once(all, value);
        });
    case planted_bug::cancel_not_sent:
        return afterwards<receiving>([](effects& all) {
            if (auto* end = find<session_ended>(all)) {
                end->untold.clear();
                drop<receiving::cancel_writer>(all);
            }
        });
    case planted_bug::not_selected_not_told:
        return afterwards<receiving>([](effects& all) { std::erase_if(all, forgets_others); });
    case planted_bug::digest_not_compared:
        return beforehand<receiving>([](event& x) {
            if (auto* report = std::get_if<kv_agent_result>(&x))
                report->digest.reset();
        });
    case planted_bug::urgency_forgotten:
        return afterwards<receiving>([](effects& all) {
            for (auto& each : all)
                if (auto* ask = std::get_if<receiving::ask_writer>(&each);
                    ask && ask->request.renewal)
                    ask->request.urgency = priority::normal;
        });
    case planted_bug::session_never_forgotten:
        return afterwards<receiving>([](effects& all) { drop<session_retired>(all); });
    case planted_bug::deadline_not_armed:
        return beforehand<receiving>(
            [](event& x) { return !std::holds_alternative<deadline_tick>(x); });
    case planted_bug::reports_counted:
        return beforehand<receiving>(counted_reports{});
    case planted_bug::early_aux_dropped:
        return beforehand<receiving>(early_aux_dropped{});
    case planted_bug::writer_mixed_up:
        return beforehand<receiving>(writer_mixed_up{});
    case planted_bug::gone_undoes_service:
        return beforehand<receiving>(gone_undoes_service{});
    case planted_bug::last_piece_is_all:
        return last_piece_is_all;
    case planted_bug::aux_before_kv:
        return aux_before_kv{};
    case planted_bug::aux_not_awaited:
        return aux_not_awaited;
    case planted_bug::one_failure_frees_all:
        return one_failure_frees_all{};
    case planted_bug::link_loss_is_proof:
        return link_loss_is_proof;
    case planted_bug::cancel_ping_pong:
        return cancel_ping_pong{};
    case planted_bug::outcome_changes:
        return outcome_changes;
    case planted_bug::forbid_not_awaited:
        return forbid_not_awaited;
    case planted_bug::handed_on_pages_back:
        return handed_on_pages_back{};
    case planted_bug::handed_on_before_it_came:
        return handed_on_before_it_came{};
    case planted_bug::handed_on_by_one_writer:
        return handed_on_by_one_writer{};
    case planted_bug::handed_on_when_all_is_here:
        return handed_on_when_all_is_here{};
    case planted_bug::rest_never_asked:
        return rest_never_asked;
    case planted_bug::relay_failure_is_final:
        return relay_failure_is_final;
    case planted_bug::relay_for_ever:
        return beforehand<receiving>(
            [](event& x) { return !std::holds_alternative<relay_overdue>(x); });
    case planted_bug::relayed_not_told:
        return afterwards<receiving>([](effects& all) {
            if (auto* end = find<session_ended>(all))
                end->relayed.clear();
        });
    case planted_bug::doubt_ends_with_forbid:
        return beforehand<receiving>([](event& x) {
            if (auto* report = std::get_if<kv_agent_result>(&x))
                report->by_messages = true;
        });
    case planted_bug::forbid_covers_mappings:
        return forbid_covers_mappings{};
    default:
        return {};
    }
}

} // namespace

void plant_receiving(deciders& in) {
    in.receiving = wrong_receiving();
}

} // namespace kvferry::harness
