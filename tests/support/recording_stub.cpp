// SPDX-License-Identifier: Apache-2.0
#include "tests/support/recording_stub.hpp"

namespace kvferry::testing {

template class stub<completion_actor>;
template class stub<copy_actor>;
template class stub<device_actor>;
template class stub<fabric_actor>;
template class stub<frame_sink_actor>;
template class stub<host_link_actor>;
template class stub<info_link_actor>;
template class stub<observer_actor>;
template class stub<peer_link_actor>;
template class stub<rank_info_server_actor>;
template class stub<receiver_actor>;
template class stub<rx_session_actor>;
template class stub<sender_actor>;
template class stub<transfer_worker_actor>;
template class stub<tx_session_actor>;

} // namespace kvferry::testing
