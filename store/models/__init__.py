"""Every table of the database, one module per noun."""

from store.models.accounts import Letter, Membership, SignInLink, Team, Token, User, UserSession
from store.models.administration import AuditEvent, Retention
from store.models.base import Base
from store.models.builds import Break, Build, BuildImage, Step
from store.models.deliveries import Delivery, StoredLog
from store.models.evidence import BuildEvidence, EvidenceText
from store.models.feedback import FeedbackPolicy, FeedbackPost, FeedbackTask
from store.models.heartbeats import Heartbeat
from store.models.identities import GroupRole, Identity, SessionIdentity, UsedState
from store.models.image_sizes import ImageLayer, ImageSize, Measuring, SizedImage
from store.models.incidents import AlertRule, Channel, DetectorState, Incident, IncidentEvent, Message
from store.models.recommendations import AdviceTurn, StoredRecommendation
from store.models.repositories import Image, Instruction, Repository, StepText, Wording
from store.models.rollups import DailyBuilds, DailyImages, DailyInstructions, DirtyDay
from store.models.runs import Run
from store.models.sources import Source

__all__ = [
    "AdviceTurn",
    "AlertRule",
    "AuditEvent",
    "Base",
    "Break",
    "Build",
    "BuildEvidence",
    "BuildImage",
    "Channel",
    "DailyBuilds",
    "DailyImages",
    "DailyInstructions",
    "Delivery",
    "DetectorState",
    "DirtyDay",
    "EvidenceText",
    "FeedbackPolicy",
    "FeedbackPost",
    "FeedbackTask",
    "GroupRole",
    "Heartbeat",
    "Identity",
    "Image",
    "ImageLayer",
    "ImageSize",
    "Incident",
    "IncidentEvent",
    "Instruction",
    "Letter",
    "Measuring",
    "Membership",
    "Message",
    "Repository",
    "Retention",
    "Run",
    "SessionIdentity",
    "SignInLink",
    "SizedImage",
    "Source",
    "Step",
    "StepText",
    "StoredLog",
    "StoredRecommendation",
    "Team",
    "Token",
    "UsedState",
    "User",
    "UserSession",
    "Wording",
]
