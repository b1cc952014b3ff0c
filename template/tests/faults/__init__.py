"""Nothing is lost: what happens to accepted tasks when something breaks. `just faults` tells.

Real processes on a real broker and a real database, all private and thrown away. Each test breaks
one thing on purpose, and is a line of the table at the end of the run.

    FAULTS_ROUNDS   full (as often as it takes to be sure) or short (each fault a few times)
    FAULTS_BROKER   redis or rabbitmq, where it is not to be the kind of the project's own
"""
