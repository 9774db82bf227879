//! What a device may say and hear, once it is in.

use outrigger_hub::broker::Outgoing;
use outrigger_protocol::{Ask, Assignment, Channel, DownMessage, Epoch, Generation, Stamp, UpMessage};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, PublishProperties, SubscribeReasonCode};

use super::support::{Client, World, report, topic, will};

/// S1
#[tokio::test(flavor = "multi_thread")]
async fn a_device_speaks_on_no_topic_of_another_in_whatever_way() {
    let mut world = World::start().await;
    let (bad, _good) = (world.device("bad").await, world.device("good").await);
    let mut client = bad.connect(&world).await;
    let mut refused = 0;
    for channel in Channel::UP.into_iter().chain(Channel::DOWN) {
        for retain in [false, true] {
            client.client.publish(topic("good", channel), QoS::AtMostOnce, retain, report(1)).await.unwrap();
        }
        client.client.publish(topic("good", channel), QoS::AtLeastOnce, false, report(1)).await.unwrap();
        loop {
            if let Packet::PubAck(ack) = client.next().await.unwrap() {
                assert_eq!(ack.reason, PubAckReason::NotAuthorized, "{channel:?}");
                refused += 1;
                break;
            }
        }
    }
    assert_eq!(refused, Channel::UP.len() + Channel::DOWN.len());
    let aliased = PublishProperties { topic_alias: Some(1), ..Default::default() };
    let at = topic("good", Channel::Report);
    client.client.publish_with_properties(at, QoS::AtMostOnce, false, report(2), aliased.clone()).await.unwrap();
    client.client.publish_with_properties("", QoS::AtMostOnce, false, report(3), aliased).await.unwrap();
    client.report("bad", 7).await;
    let (device, message) = world.heard().await;
    assert_eq!(device.as_str(), "bad", "the only thing heard is what it said as itself");
    assert!(matches!(message, UpMessage::Report(report) if report.sequence == 7));
    assert!(world.inbox.counters().totals().publishes_refused >= 20);
}

/// S1
#[tokio::test(flavor = "multi_thread")]
async fn a_device_leaves_no_will_in_the_name_of_another() {
    let world = World::start().await;
    let (bad, _good) = (world.device("bad").await, world.device("good").await);
    let mut options = bad.options(&world);
    options.set_last_will(will("good", 1));
    let answer = Client::dial(options).answer().await.unwrap();
    assert_eq!(answer, rumqttc::v5::mqttbytes::v5::ConnectReturnCode::NotAuthorized);
}

/// S1: a device that claims more than QoS 1 can at worst lose its own connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_to_be_delivered_exactly_once_reaches_nobody_either() {
    let mut world = World::start().await;
    let (bad, good) = (world.device("bad").await, world.device("good").await);
    let client = bad.connect(&world).await;
    let other = good.connect(&world).await;
    client.client.publish(topic("good", Channel::Status), QoS::ExactlyOnce, false, report(1)).await.unwrap();
    other.report("good", 5).await;
    loop {
        let (device, message) = world.heard().await;
        match message {
            UpMessage::Report(report) if device.as_str() == "good" => break assert_eq!(report.sequence, 5),
            // What it says of itself when it is thrown out.
            UpMessage::Bye(_) if device.as_str() == "bad" => (),
            other => panic!("{device}: {other:?}"),
        }
    }
}

/// S2
#[tokio::test(flavor = "multi_thread")]
async fn a_device_hears_nothing_but_what_is_said_to_it() {
    let world = World::start().await;
    let (bad, _good) = (world.device("bad").await, world.device("good").await);
    let mut client = bad.connect(&world).await;
    let of_good = Channel::DOWN.into_iter().chain(Channel::UP).map(|channel| topic("good", channel));
    let own_up = Channel::UP.into_iter().map(|channel| topic("bad", channel));
    let wild =
        ["#", "+/1/good/want", "or/1/+/want", "or/#", "$SYS/#", "$SYS/broker/clients", "or/1/bad/#", "or/1/bad/+"];
    let shared = ["$share/x/or/1/good/want", "$share/x/or/1/bad/want", "$share/x/#"];
    let all = of_good.chain(own_up).chain(wild.into_iter().chain(shared).map(str::to_owned));
    for filter in all {
        let answer = client.subscribed(&filter).await;
        assert!(!matches!(answer, SubscribeReasonCode::Success(_)), "{filter}: {answer:?}");
    }
    assert!(matches!(client.subscribed(&topic("bad", Channel::Ask)).await, SubscribeReasonCode::Success(_)));
    for device in ["good", "bad"] {
        let stamp = Stamp { epoch: Epoch(1), generation: Generation(1) };
        let want = DownMessage::Want(Assignment { stamp, ..Assignment::default() });
        for message in [want, DownMessage::Ask(Ask::Hello)] {
            world.outgoing.send(Outgoing::Send { device: device.parse().unwrap(), message }).await.unwrap();
        }
    }
    // In order: were the other's messages delivered, they would have come before.
    let Packet::Publish(publish) = client.next().await.unwrap() else { panic!("something else") };
    assert_eq!(publish.topic, topic("bad", Channel::Ask));
}

/// S12
#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_right_ends_while_it_listens_hears_nothing_more() {
    let world = World::start().await;
    let device = world.device("pi").await;
    let mut client = device.connect(&world).await;
    assert!(matches!(client.subscribed(&topic("pi", Channel::Ask)).await, SubscribeReasonCode::Success(_)));
    assert!(world.pki.quarantine(&"pi".parse().unwrap(), "a test").await.unwrap());
    for _ in 0..10 {
        let message = DownMessage::Ask(Ask::Hello);
        let _ = world.outgoing.send(Outgoing::Send { device: "pi".parse().unwrap(), message }).await;
    }
    loop {
        match client.next().await {
            Ok(Packet::Publish(publish)) => panic!("{publish:?}"),
            Ok(_) => (),
            Err(_) => break,
        }
    }
}
