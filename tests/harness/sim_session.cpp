// SPDX-License-Identifier: Apache-2.0
// The host's calls and what it is told. Nothing here asks the product what is right.
#include "tests/harness/sim_session.hpp"

#include "messages/local/outcomes.hpp"
#include "messages/trace/handle.hpp"
#include "tests/harness/sim_process.hpp"
#include "tests/harness/simulation.hpp"
#include "tests/harness/urgency.hpp"

#include <limits>
#include <numeric>

namespace kvferry::harness {

namespace {

/// How late a deadline may come: other actors of the process may run first.
constexpr microseconds deadline_slack{10'000};
constexpr microseconds retry_after{300};
/// More than simulation::bounds() lets a message name.
constexpr std::size_t too_many_slots = 20'000;

aux_record aux_of(std::uint64_t content) {
    aux_record result;
    result.first_tokens = {static_cast<std::int32_t>(content)};
    result.draft_tokens = {1, 2, static_cast<std::int32_t>(content % 1000)};
    return result;
}

} // namespace

std::string sim_session::name() const {
    return to_string(role) + " rank " + std::to_string(rank) + " rid "
           + std::to_string(plan->request) + (plan->back ? " (back)" : "");
}

session_host_state::session_host_state(session_host_actor::pointer self, sim_session* session)
    : self_(self), session_(session) {
    contents_.push_back(session_->plan->content);
    if (session_->plan->other_content != 0)
        contents_.push_back(session_->plan->other_content);
    session_->bell.attach(session_host_actor{self_});
    session_->bell.push([this] { open_now(); });
}

session_host_actor::behavior_type session_host_state::make_behavior() {
    return {
        handle(this, &session_host_state::on_piece),
        handle(this, &session_host_state::on_ready),
        handle(this, &session_host_state::on_layers),
        handle(this, &session_host_state::on_finished),
        handle(this, &session_host_state::on_released),
        handle(this, &session_host_state::on_tick),
    };
}

void session_host_state::on_tick(const deadline_tick&) {
    session_->bell.answer();
}

void session_host_state::later(microseconds wait, std::function<void()> what) {
    session_->world->schedule().after(
        wait, [session = session_, what = std::move(what)] { session->bell.push(what); });
}

// -- calls --------------------------------------------------------------------------------------

void session_host_state::open_now() {
    const auto& plan = *session_->plan;
    const auto context = session_->role == side::context;
    const auto deadline = std::chrono::duration_cast<std::chrono::milliseconds>(
        context ? plan.context_deadline : plan.generation_deadline);
    session_->opened_at = session_->world->schedule().now();
    session_->deadline_at =
        session_->opened_at + 2 * deadline; // one to the first piece, one from there on
    if (context) // a receiver that waits for its host keeps it, at most until its own deadline
        session_->deadline_at += plan.receives_after + 2 * plan.generation_deadline;
    auto refused = [this](caf::error& reason) { session_->refused = std::move(reason); };
    if (context) {
        auto aux = plan.aux_mismatch ? aux_mode::none : plan.aux;
        ask(self_, session_->process->worker,
            open_tx{{plan.request}, aux, self_, deadline, deadline})
            .then(
                [this](tx_opened& done) {
                    session_->tx = done.session;
                    opened();
                },
                refused);
    } else {
        open_rx question{{plan.request},
                         plan.aux,
                         session_->world->endpoint_of(plan.instance_of(side::context)),
                         0,
                         self_,
                         deadline,
                         deadline};
        question.tell_layers = plan.recorded.empty() && plan.request % 2 == 1;
        question.urgency = urgency_of({plan.request});
        if (plan.context_group)
            question.context_dp_rank.reset(); // the group that has the request will answer
        ask(self_, session_->process->worker, question)
            .then(
                [this](rx_opened& done) {
                    session_->rx = done.session;
                    session_->attempt = done.attempt;
                    opened();
                },
                refused);
    }
}

void session_host_state::opened() {
    session_->open = true;
    session_->died = session_->process->dead_actors.contains(session_->actor());
    session_->open_at = session_->world->schedule().now();
    if (!session_->plan->recorded.empty()) { // the recording says when
        session_->next_piece = [this] {
            session_->bell.push([this] { hand_over(session_->slots.size()); });
        };
        session_->aux_piece = [this] { session_->bell.push([this] { hand_over_aux(); }); };
        return;
    }
    const auto wait = session_->plan->receives_after;
    if (session_->role == side::generation && wait > microseconds{0})
        later(wait, [this] { hand_over(0); });
    else
        hand_over(0);
}

std::uint32_t session_host_state::first_block(std::size_t index) const {
    const auto& blocks = session_->blocks();
    return std::accumulate(blocks.begin(), blocks.begin() + static_cast<std::ptrdiff_t>(index), 0u);
}

kv_slice session_host_state::slice_of(std::size_t index) const {
    const auto& blocks = session_->blocks();
    const auto tokens = tiny_model{}.tokens_per_block;
    const auto first = first_block(index);
    kv_slice result;
    result.tokens = {first * tokens, (first + blocks[index]) * tokens};
    result.prompt_tokens = std::accumulate(blocks.begin(), blocks.end(), 0u) * tokens;
    result.groups = {{first, session_->slots[index]}};
    if (session_->plan->too_long && session_->role == side::generation)
        result.groups[0].slots.resize(too_many_slots, session_->slots[index].front());
    result.last = index + 1 == blocks.size();
    return result;
}

void session_host_state::hand_over(std::size_t index) {
    if (session_->outcome)
        return; // the outcome is known: the host lends nothing more
    const auto& plan = *session_->plan;
    const auto context = session_->role == side::context;
    const auto stalls = plan.context_stalls || plan.stalling_rank == session_->rank;
    if (context && stalls && index + 1 == session_->blocks().size())
        return;
    std::string damage;
    auto slots = session_->process->memory.take(session_->blocks()[index], damage);
    if (!damage.empty())
        session_->world->fail(failure::late_write, session_->name() + ": " + damage);
    if (!slots)
        return later(retry_after, [this, index] { hand_over(index); });
    session_->slots.push_back(std::move(*slots));
    session_->piece_told.push_back(false);
    if (context)
        for (std::size_t block = 0; block < session_->slots[index].size(); ++block)
            session_->process->memory.fill(session_->slots[index][block], plan.content,
                                           first_block(index) + static_cast<std::uint32_t>(block));
    auto slice = slice_of(index);
    if (context)
        tell(self_, session_->tx, send_slice{slice});
    else
        tell(self_, session_->rx, receive_slice{slice});
    if (!plan.recorded.empty())
        return;
    if (!slice.last)
        return later(plan.between_pieces, [this, index] { hand_over(index + 1); });
    if (context && plan.aux == aux_mode::required && !plan.aux_mismatch)
        later(plan.between_pieces, [this] { hand_over_aux(); });
    if (context && plan.sends_too_much) {
        session_->too_much_sent = true;
        tell(self_, session_->tx, send_slice{slice});
    }
}

void session_host_state::hand_over_aux() {
    if (session_->outcome)
        return;
    session_->aux_handed = true;
    tell(self_, session_->tx, send_aux{aux_of(session_->plan->content)});
}

// -- what it is told ----------------------------------------------------------------------------

std::string session_host_state::check_bytes(std::size_t index) {
    std::string wrong;
    std::erase_if(contents_, [&](std::uint64_t content) {
        const auto& slots = session_->slots[index];
        auto differs = false;
        for (std::size_t block = 0; block < slots.size() && !differs; ++block) {
            wrong = session_->process->memory.check(
                slots[block], content, first_block(index) + static_cast<std::uint32_t>(block));
            differs = !wrong.empty();
        }
        return differs;
    });
    return contents_.empty() ? wrong : std::string{};
}

void session_host_state::on_piece(const piece_finished& told) {
    auto& world = *session_->world;
    auto what = session_->name() + " piece " + to_string(told.index);
    if (told.kind == payload_kind::aux) {
        if (!session_->aux_handed || std::exchange(session_->aux_told, true))
            world.fail(failure::assertion,
                       session_->name() + ": the aux piece ended twice or never began");
        return;
    }
    if (session_->too_much_sent && told.index.value == session_->blocks().size())
        return; // the extra slice ends separately
    if (told.index.value >= session_->slots.size())
        return world.fail(failure::assertion, what + " was never handed over");
    if (session_->piece_told[told.index.value])
        return world.fail(failure::assertion, what + " ended twice");
    session_->piece_told[told.index.value] = true;
    if (told.error || session_->role == side::context)
        return;
    if (auto wrong = check_bytes(told.index.value); !wrong.empty())
        world.fail(failure::wrong_bytes, what + " has arrived, but " + wrong);
}

void session_host_state::on_ready(const session_ready&) {
    if (session_->role != side::context || std::exchange(session_->ready_told, true))
        session_->world->fail(failure::assertion, session_->name() + " was ready twice");
}

void session_host_state::on_layers(const layers_arrived& told) {
    auto& world = *session_->world;
    if (session_->role != side::generation || session_->outcome)
        world.fail(failure::assertion,
                   session_->name() + " heard of layers that it does not wait for");
    if (told.end <= session_->layers_end)
        world.fail(failure::assertion, session_->name() + " heard of fewer layers than before");
    session_->layers_end = told.end;
    world.reach("layers arrived");
    if (told.end != std::numeric_limits<std::uint32_t>::max())
        return; // a stage of several
    for (std::size_t index = 0; index < session_->slots.size(); ++index)
        if (auto wrong = check_bytes(index); !wrong.empty())
            world.fail(failure::wrong_bytes, session_->name() + " has all layers, but " + wrong);
}

void session_host_state::on_finished(const session_finished& told) {
    auto& world = *session_->world;
    const auto now = world.schedule().now();
    if (session_->outcome)
        return world.fail(failure::assertion,
                          session_->name() + " ended twice: " + to_string(session_->outcome->state)
                              + ", then " + to_string(told.state));
    session_->outcome = told;
    session_->finished_at = now;
    world.schedule().log(session_->name() + " ends " + to_string(told.state));
    if (told.error && world.schedule().keeps_log())
        world.schedule().note(describe(told.error));
    world.reach("outcome " + to_string(told.state));
    if (now > session_->deadline_at + deadline_slack + world.delay_of(*session_->process))
        world.fail(failure::stuck, session_->name() + " ended long after its deadline");
    if (!session_->succeeded()) {
        if (!told.error)
            world.fail(failure::assertion, session_->name() + " failed without a reason");
        return;
    }
    if (session_->plan->too_long)
        return world.fail(failure::assertion,
                          session_->name() + " succeeded, but its request fits into no message");
    const auto with_aux = session_->plan->aux == aux_mode::required
                          && !(session_->plan->aux_mismatch && session_->role == side::context);
    const auto wanted = with_aux ? session_state::fully_transferred : session_state::kv_transferred;
    if (told.state != wanted)
        return world.fail(failure::assertion,
                          session_->name() + " succeeded as " + to_string(told.state));
    for (std::size_t index = 0; index < session_->blocks().size(); ++index)
        if (index >= session_->piece_told.size() || !session_->piece_told[index])
            return world.fail(failure::assertion, session_->name() + " succeeded before piece "
                                                      + std::to_string(index) + " had ended");
    if (session_->role == side::context)
        return;
    for (std::size_t index = 0; index < session_->slots.size(); ++index)
        if (auto wrong = check_bytes(index); !wrong.empty())
            return world.fail(failure::wrong_bytes, session_->name() + " succeeded, but " + wrong);
    if (wanted == session_state::fully_transferred && !(told.aux == aux_of(contents_.front())))
        world.fail(failure::wrong_bytes, session_->name() + " succeeded with a wrong aux record");
}

void session_host_state::on_released(const session_released&) {
    auto& world = *session_->world;
    if (!session_->outcome)
        return world.fail(failure::assertion, session_->name() + " was released before it ended");
    if (std::exchange(session_->released, true))
        return world.fail(failure::assertion, session_->name() + " was released twice");
    world.schedule().log(session_->name() + " released");
    auto give_back = [this] {
        if (session_->role == side::generation && session_->succeeded())
            for (std::size_t index = 0; index < session_->slots.size(); ++index)
                if (auto wrong = check_bytes(index); !wrong.empty())
                    return session_->world->fail(
                        failure::late_write,
                        session_->name() + " had arrived and been released, then " + wrong);
        for (const auto& slots : session_->slots)
            session_->process->memory.give_back(slots);
        session_->slots.clear();
    };
    if (session_->role == side::generation && session_->succeeded())
        later(microseconds{500}, give_back); // decoding
    else
        give_back();
}

} // namespace kvferry::harness
